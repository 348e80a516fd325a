"""Edit requests: one fact to change, and the probes that tell whether the change took and stayed local."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """A prompt (ready to ask, nothing to fill in) and the answer that the *edited* model ought to give."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class EditRequest:
    """One fact to change.

    `prompt` holds exactly one `{}` where `subject` goes. Targets carry no leading space: the one joining function
    (`audit.models.tokens.join`) adds it. `paraphrases` are ready prompts that must also give `target_new`;
    `neighborhood` probes must keep their own answers; `portability` probes follow from the new fact by one more hop.
    """

    case_id: str
    subject: str
    prompt: str
    target_new: str
    target_true: str | None = None
    paraphrases: tuple[str, ...] = ()
    neighborhood: tuple[Probe, ...] = ()
    portability: tuple[Probe, ...] = ()

    @property
    def question(self) -> str:
        """The prompt with its subject filled in, by position (the subject may itself hold braces)."""
        before, after = self.prompt.split("{}", 1)
        return before + self.subject + after
