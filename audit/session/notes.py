"""What a report tells beside its numbers: what was taken over, from earlier runs and from one model to the next."""

from collections.abc import Iterable, Sequence

from audit.abilities.contract import Ability, AskedItems
from audit.session.editing import EditedModel
from audit.session.reuse import Reuse

Asked = tuple[Ability, AskedItems, tuple[AskedItems, ...]]  # an ability, base answers, those of each edited model


def notes(models: Sequence[EditedModel], requests: int, asked: Iterable[Asked], reuse: Reuse | None) -> tuple[str, ...]:
    """Sentences about a run of so many edit requests; what there is nothing to tell about is left out."""
    told = []
    resumed = sum(model.resumed for model in models)
    if resumed:
        told.append(f"edits: {resumed} of {requests} were taken over from a run that was interrupted")
    everything = [one for _, base, edited in asked for one in (base, *edited)]
    from_store = sum(one.from_store for one in everything)
    if from_store:
        count = sum(len(one.answers) for one in everything)
        told.append(f"answers: {from_store} of {count} had been given in earlier runs")
    shared = None if reuse is None else reuse.saving.sentence()
    return tuple(told) if shared is None else (*told, shared)
