"""The eight real data sets on the Hugging Face hub: data set, split and commit of each ability.

    source = HubSource(store)
    source.rows("nli")                  # RTE's validation split, labels by name
    source.origin("nli").revision       # the commit of these rows

A data set is loaded at its pinned commit. A data set without one in the table is loaded at its newest commit, which
the store keeps: later runs with the same store load that commit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.abilities import data_name
from audit.abilities.contract import Row
from audit.abilities.data import Origin
from audit.abilities.data.columns import with_label_names
from audit.errors import AuditError, first_line
from audit.store.content import Store


@dataclass(frozen=True)
class HubDataSet:
    """One data set of the hub: the split that is evaluated (`test`), and the split for worked examples.

    `training` "" means that there is no such split.
    """

    hub_id: str
    config: str | None
    test: str
    training: str = "train"
    revision: str | None = None  # the pinned commit; None: the newest one at the first load

    def place(self, split: str) -> str:
        """Data set, config and split in words: "nyu-mll/glue rte, validation"."""
        return f"{self.hub_id}{f' {self.config}' if self.config else ''}, {split}"


# The pinned commit of nyu-mll/glue, which has both RTE and SST-2.
GLUE = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

# By data name. `datasets` no longer runs loading scripts, so MuTual, SAMSum and CoNLL-2003 are Parquet or CSV copies.
# The test labels of RTE and SST-2 are hidden and those of MuTual are blank, so their validation splits are used.
HUB_DATA: dict[str, HubDataSet] = {
    "gsm8k": HubDataSet("openai/gsm8k", "main", "test", revision="740312add88f781978c0658806c59bc2815b9866"),
    "rte": HubDataSet("nyu-mll/glue", "rte", "validation", revision=GLUE),
    "nq_open": HubDataSet(
        "google-research-datasets/nq_open",
        "nq_open",
        "validation",
        revision="5dd9790a83002ad084ddeb7c420dc716852c6f28",
    ),
    "boolq": HubDataSet("google/boolq", None, "validation", revision="35b264d03638db9f4ce671b711558bf7ff0f80d5"),
    "mutual": HubDataSet("lighteval/mutual_harness", "mutual", "validation"),
    # The 818 dialogues of Gu et al. (2024).
    "samsum": HubDataSet("knkarthick/samsum", None, "validation", revision="6b929ff10edec703164e3ddb2e94aae058c9ab5f"),
    "conll2003": HubDataSet("lhoestq/conll2003", None, "test"),  # the split of published F1 values
    "sst2": HubDataSet("nyu-mll/glue", "sst2", "validation", revision=GLUE),
}


class HubSource:
    """Rows of the hub's data sets, loaded with `datasets` and its cache; later loads need no connection.

    `store` keeps the commits of data sets that have none in the table; without it, each run loads the newest commit.
    `table` has the data sets by data name.
    """

    def __init__(self, store: Store | None = None, table: Mapping[str, HubDataSet] = HUB_DATA) -> None:
        self.name = "hub" if table is HUB_DATA else ", ".join(one.hub_id for one in table.values())
        self._store = store
        self._table = table
        self._commits: dict[str, str] = {}  # by hub id: the commits loaded in this run
        self._test_rows: dict[str, Sequence[Row]] = {}  # by ability

    def rows(self, ability_name: str) -> Sequence[Row]:
        if ability_name not in self._test_rows:
            data_set = self._data_set(ability_name)
            self._test_rows[ability_name] = self._load(data_set, data_set.test)
        return self._test_rows[ability_name]

    def training_rows(self, ability_name: str) -> Sequence[Row]:
        data_set = self._data_set(ability_name)
        if not data_set.training:
            raise AuditError(f"{ability_name} names no training split of {data_set.hub_id}; name one.")
        return self._load(data_set, data_set.training)

    def origin(self, ability_name: str) -> Origin:
        data_set = self._data_set(ability_name)
        return Origin(data_set.place(data_set.test), self._commit(data_set))

    def check(self) -> None:
        """Raise `AuditError` offline if none of the data sets is in the cache."""
        from datasets import config

        if config.HF_HUB_OFFLINE and not any(_cache_of(data_set).is_dir() for data_set in self._table.values()):
            raise AuditError(
                "--data hub: the hub is offline (HF_HUB_OFFLINE or HF_DATASETS_OFFLINE is set) and none of its "
                f"data sets is in {config.HF_DATASETS_CACHE}; load them once with a connection, or give a folder."
            )

    def _data_set(self, ability_name: str) -> HubDataSet:
        name = data_name(ability_name)
        if name not in self._table:
            raise AuditError(f"--data hub has no data set {name!r}; give a folder, or let the ability name its data.")
        return self._table[name]

    def _commit(self, data_set: HubDataSet) -> str | None:
        """The commit to load: pinned, loaded before in this run, or stored by an earlier run."""
        known = data_set.revision or self._commits.get(data_set.hub_id)
        if known is None and self._store is not None:
            known = self._store.get(_commit_key(data_set))
        return known

    def _load(self, data_set: HubDataSet, split: str) -> list[Row]:
        needed = self._commit(data_set)
        dataset = None if needed is None else _prepared(data_set, split, needed)
        if dataset is None:
            dataset = _loaded(data_set, split, needed)
        commit = _commit_of(dataset)
        if needed is not None and commit != needed:
            # Offline, `datasets` ignores the requested commit and takes the newest one in its cache.
            raise AuditError(
                f"{data_set.place(split)} is needed at commit {needed}, but the local cache has {commit}; connect to "
                "the hub once (without HF_HUB_OFFLINE) to load that commit."
            )
        if needed is None and self._store is not None:
            stored = self._store.get_or_compute(_commit_key(data_set), lambda: commit)
            if stored != commit:  # another run was first
                return self._load(data_set, split)
        self._commits[data_set.hub_id] = commit
        return with_label_names(dataset.to_list(), dataset.features)


def _commit_key(data_set: HubDataSet) -> str:
    return f"commit of the hub's data set {data_set.hub_id}"


def _cache_of(data_set: HubDataSet) -> Path:
    """The folder in which `datasets` keeps its prepared files of the data set: config/version/commit."""
    from datasets import config  # slow to import, so only when rows are needed

    return Path(config.HF_DATASETS_CACHE).expanduser() / data_set.hub_id.replace("/", "___")


def _prepared(data_set: HubDataSet, split: str, commit: str) -> Any | None:
    """The split at exactly this commit from the local cache, without a connection; None if it is not there."""
    from datasets import Dataset, concatenate_datasets

    folders = sorted(_cache_of(data_set).glob(f"{data_set.config or '*'}/*/{commit}"))
    files = [file for folder in folders[:1] for file in sorted(folder.glob(f"*-{split}*.arrow"))]
    return concatenate_datasets([Dataset.from_file(str(file)) for file in files]) if files else None


def _loaded(data_set: HubDataSet, split: str, commit: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(
            data_set.hub_id,
            data_set.config,
            split=split,
            revision=commit,
            keep_in_memory=False,  # the folder in the cache gives the commit; see `_commit_of`
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise AuditError(
            f"{data_set.place(split)} cannot be loaded ({first_line(error)}); load it once with a connection, or "
            "give a folder with --data."
        ) from error


def _commit_of(dataset: Any) -> str:
    """The commit of a loaded split: `datasets` names its cache folder after it."""
    files = dataset.cache_files
    return Path(files[0]["filename"]).parent.name if files else "unknown"
