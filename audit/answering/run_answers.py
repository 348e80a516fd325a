"""What a run asked: all questions of an ability, or, where it may stop early, as many as a verdict takes.

asked = AskedAbilities(interview_of, settings)
found = asked.judged("nli", Points(0.05))
asked.answers["nli"]                 # whatever was answered so far, for the report
asked.unasked                        # what could not be asked, and why
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from audit.answering.early_stopping import InBlocks
from audit.answering.interview import Interview
from audit.answering.paired_answers import PairedAnswers
from audit.answering.settlement import Settled, from_all
from audit.errors import AuditError, UnaskedError
from audit.settings.options import AuditSettings
from audit.verdicts.margins import Margin


class AskedAbilities:
    """The answers of one run, by ability; nothing is asked twice.

    `interview_of` gives the questions of an ability, ready to be put to all models.
    """

    def __init__(self, interview_of: Callable[[str], Interview], wanted: AuditSettings) -> None:
        self.answers: dict[str, PairedAnswers] = {}
        self.unasked: dict[str, str] = {}
        self._interview_of = interview_of
        self._wanted = wanted
        self._in_blocks: dict[str, InBlocks] = {}

    def everything(self, name: str) -> PairedAnswers:
        """The answers to all questions.

        Raises:
            UnaskedError: they cannot be had or asked.
        """
        with self._refused(name):
            if self._wanted.early_stop:
                blocks = self._blocks(name)
                blocks.answers()
                self.answers[name] = blocks.so_far
            elif name not in self.answers:
                interview = self._interview_of(name)
                self.answers[name] = interview.both(interview.questions)
        return self.answers[name]

    def judged(self, name: str, margin: Margin) -> Settled:
        """The ability's verdict under this margin, and the answers that it rests on.

        Raises:
            UnaskedError: as above.
        """
        if not self._wanted.early_stop:
            return from_all(self.everything(name), margin, self._wanted.seed)
        with self._refused(name):
            blocks = self._blocks(name)
            found = blocks.until_settled(margin)
            self.answers[name] = blocks.so_far
        return found

    def _blocks(self, name: str) -> InBlocks:
        if name not in self._in_blocks:
            self._in_blocks[name] = InBlocks(self._interview_of(name), self._wanted.seed)
        return self._in_blocks[name]

    @contextmanager
    def _refused(self, name: str) -> Iterator[None]:
        """What cannot be asked is remembered with its reason."""
        try:
            yield
        except AuditError as error:
            self.unasked[name] = str(error)
            shots = f" with --shots {self._wanted.shots}" if self._wanted.shots else ""
            raise UnaskedError(f"{name} was not asked{shots}: {error}") from error
