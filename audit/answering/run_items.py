"""The items of a run, by ability: how each ability is asked is chosen once, on the base model.

run_items = RunItems(source, settings, lambda: known, logs, crew, stages)
run_items.of("nli").ability.reading
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from audit.abilities.contract import Ability
from audit.abilities.data import Source
from audit.abilities.data.ability_source import AbilitySource
from audit.abilities.data.set_aside import SetAside
from audit.abilities.data.sources import RowCache
from audit.abilities.presentation import Presentation, Tokenizer
from audit.answering.answers import AnswerLogs
from audit.answering.choice import Chosen
from audit.answering.crew import Crew
from audit.answering.items import DrawnItems, choice_for, drawn_items, with_reading, without_edited_facts
from audit.answering.pilot import Pilot, choose_presentation
from audit.answering.run_answers import AbilityRun
from audit.edits.requests import EditRequest
from audit.engine.known_model import KnownModel
from audit.errors import AuditError
from audit.measures.edited_facts import EditedFacts
from audit.progress import Once, Stages
from audit.settings.declaration import Effect
from audit.settings.options import DEFAULT_MARGIN, AuditSettings
from audit.verdicts.margins import Margin, Points


class RunItems:
    """The items of each ability with the ability as it is asked.

    Args:
        wanted: the settings; abilities may be added to them while the run goes on (`know`).
        known: gives the base model; it is loaded when the first items are needed.
        crew: the processes of the run; the first one chooses.
        requests: gives the edit requests of the run; items that ask for a fact that they edit are not judged.
    """

    def __init__(
        self,
        source: Source,
        wanted: AuditSettings,
        known: Callable[[], KnownModel],
        logs: AnswerLogs,
        crew: Crew,
        stages: Stages,
        requests: Callable[[], Sequence[EditRequest]] = tuple,
    ) -> None:
        self._source = RowCache(source)  # the choice and the items read the same rows
        self.wanted = wanted
        self._known = known
        self._logs = logs
        self._crew = crew
        self._stages = stages
        self._facts = Once(lambda: EditedFacts(requests()))
        self._drawn: dict[str, DrawnItems] = {}

    def know(self, text: str, source: Source) -> str:
        """The name of an ability that is given by name, file or class; its rows are added to the run's `source`.

        Raises:
            AuditError: there is no such ability, or it or a row that it brings is malformed.
        """
        self.wanted = self.wanted.with_ability(text)
        if isinstance(source, AbilitySource):
            source.know(self.wanted.abilities)
        return self.wanted.abilities.name_of(text) or text

    def of(self, name: str, margin: Margin | None = None, reading: str = "") -> DrawnItems:
        """The items of an ability. `margin` and `reading` are those of its suite; the settings override the reading.

        Raises:
            AuditError: as `choice_for`, `drawn_items` and `without_edited_facts`, or the ability was asked in another
                reading before.
        """
        wanted = with_reading(self.wanted, name, reading)
        if name not in self._drawn:
            chosen = self._crew.run_in_first(lambda: self._choice(name, wanted, margin))
            self._drawn[name] = self._drawn_items(name, wanted, chosen)
        drawn, asked = self._drawn[name], wanted.reading_of(name)
        if asked not in ("auto", drawn.ability.reading):
            raise AuditError(
                f"{name} was asked by {drawn.ability.reading} before in this run, and now by {asked}; use one reading."
            )
        return drawn

    def written(self, name: str) -> DrawnItems:
        """The items of an ability as they are asked for written answers, for a look at what the model writes.

        Raises:
            AuditError: the ability has no written answers, or its data cannot be loaded.
        """
        drawn = self._drawn.get(name)
        if drawn is not None and drawn.ability.decoding is not None:
            return drawn
        wanted = replace(self.wanted, reading={name: "answers"})
        return self._drawn_items(name, wanted)

    @property
    def _tokenizer(self) -> Tokenizer:
        return self._known().lm.tokenizer

    def _drawn_items(self, name: str, wanted: AuditSettings, chosen: Chosen | None = None) -> DrawnItems:
        def drawn() -> DrawnItems:
            found = drawn_items(name, self._source, wanted, self._tokenizer, chosen)
            return without_edited_facts(found, self._facts())

        return self._crew.run_in_all(drawn)

    def _choice(self, name: str, wanted: AuditSettings, margin: Margin | None) -> Chosen:
        points = (margin or Points(DEFAULT_MARGIN)).points if isinstance(margin, Points | None) else 0.0
        known, log = self._known(), self._logs.of(self._known())

        def choose(
            candidates: Sequence[Presentation], aside: SetAside, present: Callable[[Presentation], Ability]
        ) -> Chosen:
            def run_of(one: Presentation) -> AbilityRun:
                return AbilityRun(present(one), aside.pilot, known, (), self._stages, Crew(), None, self._logs)

            how = wanted.by_effect(Effect.ANSWERS).values()
            key = (wanted.abilities.identity(name), self._source.name, *map(str, how))
            return choose_presentation(Pilot(candidates, aside.pilot, run_of, points, aside.judged, key), log)

        return choice_for(name, self._source, wanted, self._tokenizer, choose)
