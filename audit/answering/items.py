"""The items of a run: how an ability is asked and read, and the items drawn for it.

chosen = choice_for("nli", source, settings, tokenizer, choose)    # what "auto" leaves open
asked = drawn_items("nli", source, settings, tokenizer, chosen)
asked.ability, asked.items
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from audit.abilities import ABILITIES
from audit.abilities.contract import Ability, Item, has_own_prompts, readings_of
from audit.abilities.data import Source
from audit.abilities.data.set_aside import FEWEST, SetAside, set_aside
from audit.abilities.data.sources import items
from audit.abilities.presentation import Presentation, Tokenizer, present, read_as
from audit.answering.choice import Chosen
from audit.errors import AuditError
from audit.measures.edited_facts import EditedFact, EditedFacts
from audit.pocket import POCKET_WEIGHTS
from audit.settings.options import DEFAULT_SHOTS, AuditSettings
from audit.verdicts.margins import Margin, Points, SuiteMargins


@dataclass(frozen=True, eq=False)
class DrawnItems:
    """An ability as it is asked, its items, how that was chosen, and the items left out that ask for an edited fact."""

    ability: Ability
    items: Sequence[Item]
    chosen: Chosen
    edited_facts: tuple[EditedFact, ...] = ()


# From the candidates, what is set aside, and a function that presents the ability, to the choice.
Choose = Callable[[Sequence[Presentation], SetAside, Callable[[Presentation], Ability]], Chosen]


def choice_for(
    name: str, source: Source, wanted: AuditSettings, tokenizer: Tokenizer | None = None, choose: Choose | None = None
) -> Chosen:
    """How the ability is asked. `choose` makes the choice that the settings leave open, from a model and items aside.

    Without `choose`, and for a pocket model on its own data (its card has the scores), the first candidate is taken.
    Prompts get a chat template only with a `tokenizer`.

    Raises:
        AuditError: the ability or its data cannot be loaded, it has no such reading, or rows to set aside are too few.
    """
    candidates, aside = _candidates_and_aside(name, source, wanted, tokenizer)
    if choose is None or aside is None or not _is_open(candidates):
        return Chosen(candidates[0])
    return choose(candidates, aside, lambda one: _presented(name, source, wanted, tokenizer, one, aside))


def drawn_items(
    name: str, source: Source, wanted: AuditSettings, tokenizer: Tokenizer | None = None, chosen: Chosen | None = None
) -> DrawnItems:
    """The ability of this name as it was `chosen` to be asked, and at most `wanted.limit` items, drawn by the seed.

    Raises:
        AuditError: as `choice_for`, or a column is missing or empty.
    """
    candidates, aside = _candidates_and_aside(name, source, wanted, tokenizer)
    chosen = chosen or Chosen(candidates[0])
    ability = _presented(name, source, wanted, tokenizer, chosen.presentation, aside)
    judged = None if aside is None else aside.judged
    return DrawnItems(ability, items(ability, source, wanted.limit, wanted.seed, judged), chosen)


def without_edited_facts(drawn: DrawnItems, facts: EditedFacts) -> DrawnItems:
    """The items without those that ask for an edited fact, which are listed instead.

    Raises:
        AuditError: every item asks for an edited fact.
    """
    found = tuple(fact for item in drawn.items if (fact := facts.asked_by(item)) is not None)
    if found and len(found) == len(drawn.items):
        raise AuditError(
            f"all {len(found)} items of {drawn.ability.name} ask for facts that this run edits (such as "
            f"{found[0].key}: {found[0].subject}, {found[0].target}), so nothing is left to judge; give items about "
            "other facts."
        )
    aside = {fact.key for fact in found}
    return replace(drawn, items=[item for item in drawn.items if item.key not in aside], edited_facts=found)


def _candidates_and_aside(
    name: str, source: Source, wanted: AuditSettings, tokenizer: Tokenizer | None
) -> tuple[list[Presentation], SetAside | None]:
    """The presentations to choose from, and the rows set aside if the choice or the examples need any."""
    candidates = candidates_for(name, wanted, tokenizer)
    if _is_open(candidates) and name in ABILITIES and _has_card(wanted):
        candidates = candidates[:1]
    if not _is_open(candidates) and not (candidates[0].shots and not _has_training_rows(source, name)):
        return candidates, None
    aside = set_aside(wanted.load_ability(name), source, wanted.limit, wanted.seed)
    if aside.enough:
        return candidates, aside
    _require_nothing_aside(name, source, wanted, aside)
    return candidates[:1], None


def _is_open(candidates: Sequence[Presentation]) -> bool:
    """Whether there is something to measure before items are asked."""
    return len(candidates) > 1 or candidates[0].reading == "calibrated"


def _presented(
    name: str,
    source: Source,
    wanted: AuditSettings,
    tokenizer: Tokenizer | None,
    one: Presentation,
    aside: SetAside | None,
) -> Ability:
    from_training = bool(wanted.shots) and _has_training_rows(source, name)
    return present(
        wanted.load_ability(name),
        source,
        shots=one.shots,
        seed=wanted.seed,
        chat_tokenizer=tokenizer if one.chat else None,
        reading=one.reading,
        offset=one.offset,
        aside=() if from_training or aside is None else aside.examples,
    )


def with_reading(wanted: AuditSettings, name: str, reading: str) -> AuditSettings:
    """The settings with the reading that a suite asks for, unless they have one for the ability themselves."""
    if not reading or name in wanted.reading or "" in wanted.reading:
        return wanted
    return replace(wanted, reading={**wanted.reading, name: reading})


def candidates_for(name: str, wanted: AuditSettings, tokenizer: Tokenizer | None) -> list[Presentation]:
    """The presentations that the settings allow, in the order in which they are tried.

    Raises:
        AuditError: the ability has no such reading, or it brings its own prompts and the settings ask for others.
    """
    ability, reading = wanted.load_ability(name), wanted.reading_of(name)
    several = readings_of(ability) if reading == "auto" else (read_as(ability, reading),)
    if has_own_prompts(ability):
        _require_no_other_prompts(name, wanted)
        return [Presentation(one.reading) for one in several]
    if wanted.shots or wanted.chat_template or wanted.prompting != "auto" or wanted.protocol != "standard":
        chat = wanted.chat_template or wanted.prompting == "chat"
        shots = wanted.shots or (DEFAULT_SHOTS if wanted.prompting == "examples" else 0)
        ways = [(shots, chat)]
    else:
        ways = [(0, False), (DEFAULT_SHOTS, False)]
        if tokenizer is not None and tokenizer.chat_template and wanted.editor != "ike":
            ways.append((0, True))
    return [Presentation(one.reading, shots, chat) for one in several for shots, chat in ways]


def _require_no_other_prompts(name: str, wanted: AuditSettings) -> None:
    """Raise `AuditError` if the settings ask for worked examples or a chat template."""
    asked = {
        f"--shots {wanted.shots}": wanted.shots,
        "--chat-template": wanted.chat_template,
        f"--prompting {wanted.prompting}": wanted.prompting not in ("auto", "plain"),
    }
    for flag in (flag for flag, given in asked.items() if given):
        raise AuditError(
            f"{flag}: {name} brings its own prompts and worked examples; leave the option out, or ask "
            f"{name} in a run of its own."
        )


def _has_card(wanted: AuditSettings) -> bool:
    """Whether a pocket model is asked its own data: its card has its scores by the first reading, plainly asked."""
    installed = wanted.model.startswith("pocket-") and (POCKET_WEIGHTS / wanted.model / "config.json").is_file()
    return wanted.data == "pocket" and installed


def _has_training_rows(source: Source, name: str) -> bool:
    try:
        return bool(source.training_rows(name))
    except AuditError:
        return False


def _require_nothing_aside(name: str, source: Source, wanted: AuditSettings, aside: SetAside) -> None:
    """Raise `AuditError` if the settings ask for what only rows set aside can give."""
    asked = wanted.reading_of(name)
    examples = (wanted.prompting == "examples" or wanted.shots) and not _has_training_rows(source, name)
    if asked == "calibrated" or examples:
        what = f"--reading {name}=calibrated" if asked == "calibrated" else "worked examples"
        raise AuditError(
            f"{what}: {source.name} has only {len(source.rows(name))} rows for {name}, of which {len(aside.pilot)} can "
            f"be set aside, and {FEWEST} are needed; give more rows, or a training split."
        )


def data_revisions(source: Source, abilities: Iterable[str]) -> dict[str, str]:
    """The revision of each ability's data set, for those whose source knows it."""
    origins = {name: source.origin(name) for name in abilities}
    return {f"data {name}": f"{o.place}: {o.revision}" for name, o in origins.items() if o.revision is not None}


def margin_for(ability: Ability, suite: SuiteMargins, wanted: AuditSettings) -> Margin:
    """The margin of an ability as it is read: that of the settings, else that of its suite.

    Raises:
        AuditError: the margin of a reading by likelihood is in score points.
    """
    name, typed = ability.name, wanted.margins.get(ability.name)
    margin = typed or suite.of(ability.reading)
    if ability.reading == "likelihood" and isinstance(margin, Points):
        first = readings_of(wanted.load_ability(name))[0].reading
        said, share = (f"--margin {name}={typed}", f"{name}=90%") if typed else (f"keep={margin}", 'keep="90%"')
        raise AuditError(
            f"{said} is in score points, but {name} is read by likelihood, whose margin is a share to "
            f"keep; give a share such as {share}, or another reading such as --reading {name}={first}."
        )
    return margin
