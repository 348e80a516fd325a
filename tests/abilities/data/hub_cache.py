"""An imitation of the cache of `datasets`: small data sets, prepared by `datasets` itself, at given commits.

cache = HubCache(tmp_path, monkeypatch)  # offline from here on
cache.put("rte", commit="ab" * 20)
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from audit.abilities.data.hub import HUB_DATA
from tests.small_audit import abilities

LABELS = {
    "rte": {"label": ["entailment", "not_entailment"]},
    "sst2": {"label": ["negative", "positive"]},
    "conll2003": {"ner_tags": ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]},
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubCache:
    """The cache folder of `datasets` in `root`, with the hub offline."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from datasets import config

        self._root = root
        self.folder = root / "cache"
        monkeypatch.setattr(config, "HF_DATASETS_CACHE", self.folder)
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)

    def put(self, data_name: str, commit: str | None = None, **splits: list[dict[str, Any]]) -> None:
        """Prepare a data set at a commit (default: its pinned one) with a dozen small rows in each split."""
        from datasets import load_dataset

        data_set = HUB_DATA[data_name]
        rows = splits or dict.fromkeys((data_set.training, data_set.test), abilities()[data_name])
        repository = write_repository(self._root / "repositories" / data_set.hub_id, data_name, rows)
        load_dataset(str(repository), data_set.config, cache_dir=str(self._root / "made"))
        (made,) = (self._root / "made").glob("*/*/*/*/dataset_info.json")
        place = self.folder / data_set.hub_id.replace("/", "___") / made.parts[-4] / "0.0.0"
        shutil.move(made.parent, place / (commit or data_set.revision or COMMIT))
        shutil.rmtree(self._root / "made")


def write_repository(folder: Path, data_name: str, splits: dict[str, list[dict[str, Any]]]) -> Path:
    """A repository in the layout of the hub: a card that names the files, and one Parquet file for each split."""
    config = HUB_DATA[data_name].config or "default"
    files = []
    for split, rows in splits.items():
        write_parquet(folder / config / f"{split}-00000-of-00001.parquet", data_name, rows)
        files.append(f"  - split: {split}\n    path: {config}/{split}-*\n")
    card = f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{''.join(files)}---\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def write_parquet(path: Path, data_name: str, rows: list[dict[str, Any]]) -> None:
    """Rows as a Parquet file with the names of their labels, in the order of `LABELS`."""
    from datasets import ClassLabel, Dataset, Features

    features = Features(Dataset.from_list(rows).features)
    for column, names in LABELS.get(data_name, {}).items():
        label = ClassLabel(names=names)
        features[column] = [label] if isinstance(rows[0][column], list) else label
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(str(path))
