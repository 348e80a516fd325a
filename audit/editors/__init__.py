"""Editors: one file for each method, the stages that methods share, and the table of their names."""

import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from audit.errors import AuditError

if TYPE_CHECKING:
    from audit.editors.contract import Editor
    from audit.store.content import Store

ENTRY_POINT_GROUP = "audit.editors"
EDITORS: dict[str, str] = {
    "kn": "audit.editors.methods.kn:KnowledgeNeurons",
    "mend": "audit.editors.methods.mend:Mend",
    "rome": "audit.editors.methods.rome:Rome",
    "r-rome": "audit.editors.methods.rome:RRome",
    "memit": "audit.editors.methods.memit:Memit",
    "memit-seq": "audit.editors.methods.memit:MemitSeq",
    "emmet": "audit.editors.methods.emmet:Emmet",
    "pmet": "audit.editors.methods.pmet:Pmet",
    "alphaedit": "audit.editors.methods.alphaedit:AlphaEdit",
    "ultraedit": "audit.editors.methods.ultraedit:UltraEdit",
    "ft": "audit.editors.methods.ft:FineTuning",
    "ft-l": "audit.editors.methods.ft_l:NormConstrained",
    "ft-bf": "audit.editors.methods.ft_bf:BreadthFirst",
    "lora": "audit.editors.methods.lora:Lora",
    "grace": "audit.editors.methods.grace:Grace",
    "wise": "audit.editors.methods.wise:Wise",
    "ike": "audit.editors.methods.ike:Ike",
    "identity": "audit.editors.methods.controls:Identity",
    "vandal": "audit.editors.methods.controls:Vandal",
}
CONTROLS = ("identity", "vandal")  # they make no edit: the first must pass, the second must fail


def load_editor(
    name: str, config: Mapping[str, str] | None = None, seed: int = 0, store: "Store | None" = None
) -> "Editor":
    """Load an editor by its name in `EDITORS`, by an entry point in the group `audit.editors`, or as "module:Class".

    The class is called with the arguments of its signature among `config` (overrides of settings, as text), `seed` and
    `store`.

    Raises:
        AuditError: there is no such editor, it cannot be imported, it is not an editor, or it has no setting with a
            name in `config`.
    """
    kind = _find(name)
    offered = {"config": dict(config or {}), "seed": seed, "store": store}
    parameters = inspect.signature(kind).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if config and not takes_any and "config" not in parameters:
        raise AuditError(f"the editor {name} has no settings, so {', '.join(config)} cannot be set; leave it out.")
    editor = kind(**{key: value for key, value in offered.items() if takes_any or key in parameters})
    missing = [part for part in ("name", "batches", "edit") if not hasattr(editor, part)]
    if missing:
        raise AuditError(
            f"{name} is not an editor, because it has no {' and no '.join(missing)}; "
            "see audit.editors.contract.Editor for the members of an editor."
        )
    return editor  # type: ignore[no-any-return]


def _find(name: str) -> Any:
    if name in EDITORS:
        return _imported(name, EDITORS[name])
    registered: dict[str, EntryPoint] = {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}
    if name in registered:
        return _imported(name, registered[name].value)
    if ":" in name:
        return _imported(name, name)
    known = ", ".join([*EDITORS, *sorted(registered)])
    raise AuditError(f"there is no editor {name!r}; choose from {known}, or give package.module:Class.")


def _imported(name: str, place: str) -> Any:
    module_name, _, class_name = place.partition(":")
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise AuditError(f"the editor {name} cannot be imported ({reason}); check {module_name!r}.") from error
    kind = getattr(module, class_name, None)
    if not callable(kind):
        classes = [(key, value) for key, value in vars(module).items() if inspect.isclass(value)]
        there = [key for key, value in classes if value.__module__ == module_name]
        raise AuditError(
            f"the editor {name} has no class {class_name!r} in {module_name}; "
            f"it has {', '.join(there) or 'no classes'}."
        )
    return kind
