"""The file of a grid: its shared settings and its cells, as TOML.

    limit = 100
    data = "${REAL_DATA}"                                   # of the environment, so that no private path is in the file
    edits = { counterfact = "edits/counterfact.json" }      # from the folder of the file
    models.small.path = "../models/small"
    models.small.editors.memit.covariance = "${REAL_DATA}/texts.txt"

    [[cells]]
    tag = "sequences"
    editors = ["rome", "memit"]
    modes = ["instance-sequential"]
    counts = [1, 10, 100]

Cells are products, as those of the command line. Without `models` or `edits` they take all models, and the only edits.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audit.editors import load_editor
from audit.errors import AuditError
from audit.reports.workflows.grid_cells import POCKET, Cell
from audit.settings.values import parse_readings, suggestion
from audit.workflows.grid.cells import EditorSettings, GridModel, GridSettings, product_cells

VARIABLE = re.compile(r"\$\{(\w+)\}")
SHARED = (
    *("limit", "seed", "data", "reading", "prompting", "dtype", "device", "store", "abilities"),
    *("edits", "models", "editors", "cells"),
)
OF_CELLS = ("tag", "models", "editors", "config", "restraints", "modes", "counts", "batch_sizes", "seeds", "edits")
NAMES = (POCKET, "hub")  # of data and edits that are no paths


@dataclass(frozen=True)
class GridFile:
    """What a file says: the cells in its order, the tags of each, and shared settings by their names."""

    cells: tuple[Cell, ...]
    tags: Mapping[Cell, tuple[str, ...]]
    shared: Mapping[str, Any] = field(default_factory=dict)
    spellings: tuple[tuple[str, str], ...] = ()

    def settings(self, root: Path, **more: Any) -> GridSettings:
        """The settings of the grid in the folder `root`; `more` replace those of the file."""
        return GridSettings(root, **{**self.shared, **more}, spellings=self.spellings)

    def tagged(self, tags: Sequence[str]) -> tuple[Cell, ...]:
        """The cells with one of these tags; all without any.

        Raises:
            AuditError: no cell has one of the tags, or a file that an editor of these cells needs does not exist.
        """
        known = tuple(dict.fromkeys(tag for of_cell in self.tags.values() for tag in of_cell))
        for tag in tags:
            if tag not in known:
                raise AuditError(f"--tags {tag!r}: no cell has it; give some of {', '.join(known)}.")
        cells = tuple(cell for cell in self.cells if not tags or set(tags) & set(self.tags[cell]))
        spelled = dict(self.spellings)
        for cell in cells:
            for key, value in self.shared["models"][cell.model].editor_config.get(cell.editor, {}).items():
                if value in spelled and not Path(value).exists():
                    raise AuditError(
                        f"{cell.model}, {cell.editor}, {key}: there is no {spelled[value]} ({value}); correct it, "
                        "or leave these cells out with --tags."
                    )
        return cells


def read_grid_file(path: Path) -> GridFile:
    """Read the file of a grid.

    Raises:
        AuditError: it cannot be read, has a wrong name or value, or names a file or a variable that does not exist.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise AuditError(f"--plan {path} cannot be read ({error.strerror}); give the TOML file of a grid.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AuditError(f"--plan {path} is not TOML ({error}); correct it.") from None
    return _Reader(path).file(document)


class _Reader:
    """Reads one document; errors name the file and the place in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spellings: dict[str, str] = {}

    def file(self, document: Mapping[str, Any]) -> GridFile:
        self._require_known("", document, SHARED)
        shared: dict[str, Any] = {}
        for name in ("limit", "seed"):
            if name in document:
                shared[name] = self._whole(name, document[name], 1 if name == "limit" else 0)
        for name in ("prompting", "dtype", "device"):
            if name in document:
                shared[name] = self._text(name, document[name])
        for name in ("data", "store"):
            if name in document:
                value = self._place(name, document[name], exists=name == "data")
                shared[name] = value if name == "data" else Path(value)
        if "reading" in document:
            shared["reading"] = self._readings(document["reading"])
        if "abilities" in document:
            shared["abilities"] = self._list("abilities", document["abilities"], self._text)
        edits = document.get("edits", POCKET)
        named = edits if isinstance(edits, dict) else {self._text("edits", edits): edits}
        shared["edits"] = {name: self._place(f"edits.{name}", place) for name, place in named.items()}
        shared["models"] = self._models(document.get("models"), self._editors("editors", document.get("editors", {})))
        cells, tags = self._cells(
            document.get("cells"), tuple(shared["models"]), tuple(shared["edits"]), shared.get("seed", 0)
        )
        spellings = sorted(self._spellings.items(), key=lambda pair: -len(pair[0]))  # a folder after what is in it
        return GridFile(cells, tags, shared, tuple(spellings))

    def _models(self, table: Any, of_all: EditorSettings) -> dict[str, GridModel]:
        if not isinstance(table, dict) or not table:
            raise self._error("models", table, 'a table with a model or more, such as models.small.path = "DIR"')
        found: dict[str, GridModel] = {}
        for name, entry in table.items():
            self._require_known(f"models.{name}", entry, ("path", "editors"))
            place = self._place(f"models.{name}.path", entry["path"]) if "path" in entry else name
            own = self._editors(f"models.{name}.editors", entry.get("editors", {}))
            both = {editor: {**of_all.get(editor, {}), **own.get(editor, {})} for editor in {**of_all, **own}}
            found[name] = GridModel(place, both)
        return found

    def _editors(self, where: str, table: Any) -> EditorSettings:
        if not isinstance(table, dict):
            raise self._error(where, table, "a table of editors")
        for editor, config in table.items():
            load_editor(editor)  # an unknown one is an error
            if not isinstance(config, dict):
                raise self._error(f"{where}.{editor}", config, "a table of its settings")
        return {editor: self._config(f"{where}.{editor}", config) for editor, config in table.items()}

    def _config(self, where: str, table: Mapping[str, Any]) -> dict[str, str]:
        """Hyperparameters as text; one that has a slash or a variable is a path."""
        found: dict[str, str] = {}
        for key, value in table.items():
            if isinstance(value, str) and ("/" in value or VARIABLE.search(value)):
                found[key] = self._place(f"{where}.{key}", value, exists=False)
            elif isinstance(value, str | int | float) and not isinstance(value, bool):
                found[key] = str(value)
            else:
                raise self._error(f"{where}.{key}", value, "a string or a number")
        return found

    def _cells(
        self, tables: Any, models: tuple[str, ...], edits: tuple[str, ...], seed: int
    ) -> tuple[tuple[Cell, ...], dict[Cell, tuple[str, ...]]]:
        if not isinstance(tables, list) or not tables:
            raise self._error("cells", tables, "a [[cells]] table or more")
        tags: dict[Cell, tuple[str, ...]] = {}
        for number, table in enumerate(tables, start=1):
            where = f"cells {number}"
            self._require_known(where, table, OF_CELLS)
            if missing := [name for name in ("editors", "counts") if name not in table]:
                raise self._error(where, table, f"{missing[0]} = [...]")
            if "edits" not in table and len(edits) > 1:
                raise self._error(where, table, f"edits = [...], since there are {', '.join(edits)}")
            texts = {
                name: self._list(f"{where}, {name}", table[name], self._text)
                for name in ("models", "editors", "restraints", "modes", "edits")
                if name in table
            }
            numbers = {
                name: self._list(f"{where}, {name}", table[name], lambda at, one: self._whole(at, one, 0))
                for name in ("counts", "batch_sizes", "seeds")
                if name in table
            }
            for name, known in (("models", models), ("edits", edits)):
                for one in texts.get(name, ()):
                    if one not in known:
                        raise self._error(f"{where}, {name}", one, f"some of {', '.join(known)}")
            config = self._config(f"{where}, config", table.get("config", {}))
            editors = {name: load_editor(name, config).batches for name in texts.pop("editors")}
            restraints = ["" if one == "none" else one for one in texts.pop("restraints", ("none",))]
            found = product_cells(
                editors=editors,
                restraints=restraints,
                config=tuple(f"{key}={value}" for key, value in config.items()),
                **{"models": models, "edits": edits, **texts},
                **{"seeds": (seed,), **numbers},
            )
            tag = self._text(f"{where}, tag", table.get("tag", ""))
            for cell in found:
                tags[cell] = (*tags.get(cell, ()), *filter(None, [tag]))
        return tuple(tags), tags

    def _place(self, where: str, value: Any, exists: bool = True) -> str:
        """A name, or a path from the folder of the file, with the variables in it."""
        spelled = self._text(where, value)
        if spelled in NAMES or (spelled.startswith("pocket-") and "/" not in spelled):
            return spelled

        def variable(match: re.Match[str]) -> str:
            if match[1] not in os.environ:
                raise AuditError(f"{self._path}, {where}: {match[0]} is not set; export {match[1]}=... first.")
            found = os.environ[match[1]]
            self._spellings.setdefault(os.path.normpath(found), match[0])
            return found

        path = Path(os.path.normpath(self._path.parent.absolute() / Path(VARIABLE.sub(variable, spelled)).expanduser()))
        if exists and not path.exists():
            raise AuditError(f"{self._path}, {where}: there is no {spelled} ({path}); correct the path.")
        self._spellings.setdefault(str(path), spelled)
        return str(path)

    def _readings(self, value: Any) -> dict[str, str]:
        texts = [f"{name}={one}" for name, one in value.items()] if isinstance(value, dict) else [value]
        return parse_readings(f"{self._path}, reading", [self._text("reading", one) for one in texts])

    def _list(self, where: str, value: Any, each: Callable[[str, Any], Any]) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise self._error(where, value, "a list with a value or more")
        return tuple(each(where, one) for one in value)

    def _text(self, where: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self._error(where, value, "a string")
        return value

    def _whole(self, where: str, value: Any, least: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._error(where, value, f"a whole number of at least {least}")
        return value

    def _require_known(self, where: str, table: Any, names: Sequence[str]) -> None:
        if not isinstance(table, dict):
            raise self._error(where, table, "a table")
        for key in table:
            if key not in names:
                place = f"{self._path}, {where}" if where else str(self._path)
                raise AuditError(
                    f"{place}: {key!r} is unknown{suggestion(key, names)}; give some of {', '.join(names)}."
                )

    def _error(self, where: str, value: Any, wanted: str) -> AuditError:
        shown = "nothing" if value is None else repr(value)
        return AuditError(f"{self._path}, {where}: {shown} is not usable here; give {wanted}.")
