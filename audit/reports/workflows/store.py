"""What `audit store` found and did, as plain data, sentences and tables; sizes in bytes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.filesize import decimal

from audit.store.inventory import Entry

MODEL_DIGITS = 12  # of a fingerprint, in tables
UNKNOWN_MODEL = "unknown"


@dataclass(frozen=True)
class StoreSize:
    """The entries of a store; `models` are the fingerprints of the base models' weights by the names of entries."""

    root: str
    entries: tuple[Entry, ...]
    models: Mapping[str, str]

    @property
    def bytes(self) -> int:
        """The size of all entries."""
        return sum(entry.bytes for entry in self.entries)


@dataclass(frozen=True)
class Pruning:
    """Entries that were not used for `older_than` seconds: those that were deleted, and those that a run locks."""

    root: str
    older_than: float
    deleted: tuple[Entry, ...]
    in_use: tuple[Entry, ...]
    dry_run: bool


@dataclass(frozen=True)
class Damage:
    """An entry that is damaged: what is wrong, and what became of it: "left", "deleted", "repaired" or "in use"."""

    entry: Entry
    what: str
    fate: str = "left"


@dataclass(frozen=True)
class Verification:
    """The entries that were read, the damaged ones, and how many entries of each kind have no checksum."""

    root: str
    read: int
    damaged: tuple[Damage, ...]
    unchecked: Mapping[str, int]

    @property
    def sound(self) -> bool:
        """Whether nothing damaged is left."""
        return all(one.fate in ("deleted", "repaired") for one in self.damaged)


def size_tables(size: StoreSize) -> list[tuple[list[str], list[list[str]]]]:
    """Headings and lines of two tables: the sizes by kind, and by base model if any is known."""
    tables = [(["kind", "entries", "size"], [_line(*one) for one in _by_kind(size.entries)])]
    if size.models:
        lines = [_line(name[:MODEL_DIGITS], count, total) for name, count, total in _by_model(size)]
        tables.append((["base model (fingerprint)", "entries", "size"], lines))
    return tables


def size_sentence(size: StoreSize) -> str:
    """The total."""
    return f"{size.root}: {_entries(size.entries)}" if size.entries else f"{size.root}: nothing is stored there"


def size_document(size: StoreSize) -> dict[str, Any]:
    """The sizes as data for JSON."""
    return {
        "store": size.root,
        "bytes": size.bytes,
        "kinds": [{"kind": kind, "entries": count, "bytes": total} for kind, count, total in _by_kind(size.entries)],
        "models": [{"weights": name, "entries": count, "bytes": total} for name, count, total in _by_model(size)],
    }


def pruning_sentences(pruning: Pruning) -> list[str]:
    """What was deleted, by kind, and what stays because it is in use."""
    hours = pruning.older_than / 3600
    age = f"not used for {hours / 24:g} d" if hours >= 24 else f"not used for {hours:g} h"
    verb = "would be deleted" if pruning.dry_run else "deleted"
    lines = [f"{kind}: {count} {verb}, {decimal(total)}" for kind, count, total in _by_kind(pruning.deleted)]
    lines += [f"{entry.name} is in use and stays" for entry in pruning.in_use]
    total = f"{_entries(pruning.deleted)} {verb}" if pruning.deleted else f"nothing {verb}"
    return [*lines, f"{pruning.root}: {total}, {age}"]


def pruning_document(pruning: Pruning) -> dict[str, Any]:
    """The pruning as data for JSON."""
    return {
        "store": pruning.root,
        "older_than_seconds": pruning.older_than,
        "dry_run": pruning.dry_run,
        "deleted": [_plain(entry) for entry in pruning.deleted],
        "in_use": [_plain(entry) for entry in pruning.in_use],
        "bytes": sum(entry.bytes for entry in pruning.deleted),
    }


def verification_sentences(found: Verification) -> list[str]:
    """Each damaged entry by its name, what has no checksum, and the total."""
    lines = [f"{one.entry.kind}, {one.entry.name}: {one.what}{_fate(one)}" for one in found.damaged]
    lines += [
        f"{kind}: {count} read by name and size only, they have no checksum" for kind, count in found.unchecked.items()
    ]
    left = [one for one in found.damaged if one.fate == "left"]
    advice = "; delete what is damaged with --remove, and later runs compute it again" if left else ""
    return [*lines, f"{found.root}: {found.read} entries read, {len(found.damaged)} damaged{advice}"]


def verification_document(found: Verification) -> dict[str, Any]:
    """The verification as data for JSON."""
    return {
        "store": found.root,
        "read": found.read,
        "damaged": [{**_plain(one.entry), "what": one.what, "fate": one.fate} for one in found.damaged],
        "without_checksum": dict(found.unchecked),
    }


def _fate(one: Damage) -> str:
    said = {"deleted": "it was deleted", "repaired": "these were deleted", "in use": "it is in use and stays"}
    return f"; {said[one.fate]}" if one.fate in said else ""


def _plain(entry: Entry) -> dict[str, Any]:
    return {"kind": entry.kind, "name": entry.name, "bytes": entry.bytes}


def _entries(found: Sequence[Entry]) -> str:
    size = decimal(sum(entry.bytes for entry in found))
    return f"1 entry, {size}" if len(found) == 1 else f"{len(found)} entries, {size}"


def _by_kind(found: Sequence[Entry]) -> list[tuple[str, int, int]]:
    return _summed((entry.kind, entry) for entry in found)


def _by_model(size: StoreSize) -> list[tuple[str, int, int]]:
    return _summed((size.models.get(entry.name, UNKNOWN_MODEL), entry) for entry in size.entries)


def _summed(named: Iterable[tuple[str, Entry]]) -> list[tuple[str, int, int]]:
    """For each name the number of entries and their size, the largest first."""
    sums: dict[str, tuple[int, int]] = {}
    for name, entry in named:
        count, total = sums.get(name, (0, 0))
        sums[name] = (count + 1, total + entry.bytes)
    return sorted(((name, *pair) for name, pair in sums.items()), key=lambda one: (-one[2], one[0]))


def _line(name: str, count: int, total: int) -> list[str]:
    return [name, str(count), decimal(total)]
