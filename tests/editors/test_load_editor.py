"""Editors by name, by entry point and by module and class; errors that list the choices."""

from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

import audit.editors as editors
from audit.editors import EDITORS, load_editor
from audit.editors.methods.memit import Memit
from audit.errors import AuditError
from audit.models.patches import identity_patch


class Surgeon:
    """A third-party editor, which takes only the arguments that it needs."""

    name: ClassVar[str] = "surgeon"
    batches: ClassVar[bool] = True

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def edit(self, lm: Any, requests: Any, progress: Any = None) -> Any:
        return identity_patch()


class Eager(Surgeon):
    def __init__(self, **everything: Any) -> None:
        self.everything = everything


class Stranger:
    name = "stranger"


HERE = __name__
NAMES = ", ".join(EDITORS)


@pytest.mark.parametrize("name", EDITORS)
def test_every_name_in_the_table_is_an_editor(name: str) -> None:
    editor = load_editor(name, seed=3)
    assert editor.name == name
    assert isinstance(editor.batches, bool)


def test_the_config_reaches_the_editor() -> None:
    with pytest.raises(AuditError, match="memit has no setting 'layr'"):
        load_editor("memit", {"layr": "3"})
    assert isinstance(load_editor("memit", {"layers": "1"}), Memit)


def test_a_third_party_class_gets_the_arguments_of_its_signature() -> None:
    surgeon = load_editor(f"{HERE}:Surgeon", seed=7)
    assert surgeon.seed == 7  # type: ignore[attr-defined]
    eager = load_editor(f"{HERE}:Eager", {"depth": "2"}, seed=7)
    assert eager.everything == {"config": {"depth": "2"}, "seed": 7, "store": None}  # type: ignore[attr-defined]


def test_an_entry_point_is_an_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("surgeon", f"{HERE}:Surgeon", editors.ENTRY_POINT_GROUP)
    monkeypatch.setattr(editors, "entry_points", lambda group: [entry] if group == "audit.editors" else [])
    assert load_editor("surgeon").name == "surgeon"
    with pytest.raises(AuditError, match=f"choose from {NAMES}, surgeon, or give"):
        load_editor("sturgeon")


@pytest.mark.parametrize(
    ("name", "config", "sentence"),
    [
        ("memitt", {}, f"there is no editor 'memitt'; choose from {NAMES}, or give"),
        ("no_such_package.editors:Surgeon", {}, "cannot be imported .*no_such_package"),
        (f"{HERE}:Butcher", {}, "has no class 'Butcher' in .*; it has Surgeon, Eager, Stranger"),
        (f"{HERE}:Stranger", {}, "is not an editor, because it has no batches and no edit"),
        (f"{HERE}:Surgeon", {"depth": "2"}, "has no settings, so depth cannot be set"),
        (":Surgeon", {}, "cannot be imported"),
    ],
)
def test_errors_when_an_editor_cannot_be_loaded(name: str, config: dict[str, str], sentence: str) -> None:
    with pytest.raises(AuditError, match=sentence):
        load_editor(name, config)
