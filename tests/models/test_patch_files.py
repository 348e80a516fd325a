"""Saved patches load completely; damaged, changed and foreign patches are refused."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.patches import (
    Delta,
    DenseDelta,
    LowRankDelta,
    Patch,
    PatchSequence,
    Replacement,
    WeightPatch,
    load_patch,
)
from tests.tiny_models import build_tiny_gpt2

numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@st.composite
def deltas(draw: st.DrawFn) -> Delta:
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    outputs, rank, inputs = (draw(st.integers(1, 3)) for _ in range(3))

    def matrix(rows: int, columns: int) -> Tensor:
        entries = draw(st.lists(numbers, min_size=rows * columns, max_size=rows * columns))
        return torch.tensor(entries, dtype=dtype).reshape(rows, columns)

    if draw(st.booleans()):
        return LowRankDelta(matrix(outputs, rank), matrix(rank, inputs))
    kind = draw(st.sampled_from([DenseDelta, Replacement]))
    return kind(matrix(outputs, inputs).to(draw(st.sampled_from([torch.float32, torch.bfloat16]))))


names = st.text(alphabet="abh.0:/ é", min_size=1, max_size=12)
weight_patches = st.builds(
    WeightPatch,
    st.dictionaries(names, deltas(), max_size=3),
    st.frozensets(names, max_size=2),
    st.dictionaries(names, st.text(max_size=5), max_size=2),
)
patches = st.recursive(
    weight_patches, lambda inner: st.builds(PatchSequence, st.lists(inner, max_size=3).map(tuple)), max_leaves=4
)


@given(patches)
@settings(max_examples=50)
def test_saving_and_loading_gives_the_same_patch(patch: Patch) -> None:
    with TemporaryDirectory() as folder:
        patch.save(Path(folder) / "patch")
        loaded = load_patch(Path(folder) / "patch")
    assert loaded.fingerprint == patch.fingerprint
    assert type(loaded) is type(patch)


def test_a_loaded_patch_edits_the_same_bits(tmp_path: Path) -> None:
    lm = build_tiny_gpt2(dtype=torch.float16)
    name = lm.anatomy.weight_name(1)
    delta = LowRankDelta(torch.randn(32, 2), torch.randn(2, 128))
    embeddings = WeightPatch({"transformer.wte.weight": DenseDelta(torch.ones(400, 32))})
    patch = PatchSequence((WeightPatch({name: delta}, frozenset({name})), embeddings))
    patch.save(tmp_path)
    with patch.applied(lm):
        edited = weights_fingerprint(lm)
    with load_patch(tmp_path).applied(lm):
        assert weights_fingerprint(lm) == edited


def test_factors_that_share_memory_can_be_saved(tmp_path: Path) -> None:
    matrix = torch.ones(4, 4)
    patch = WeightPatch({"a": LowRankDelta(matrix, matrix), "b": DenseDelta(matrix.T)})
    patch.save(tmp_path)
    assert load_patch(tmp_path).fingerprint == patch.fingerprint


def test_a_shorter_sequence_saved_over_a_longer_one_stays_short(tmp_path: Path) -> None:
    step = WeightPatch({"a": DenseDelta(torch.ones(2))})
    PatchSequence((step, step, step)).save(tmp_path)
    PatchSequence((step,)).save(tmp_path)
    loaded = load_patch(tmp_path)
    assert isinstance(loaded, PatchSequence)
    assert len(loaded.patches) == 1


def test_every_content_has_its_own_fingerprint() -> None:
    values = torch.ones(2, 2)
    distinct: list[Patch] = [
        WeightPatch({}),
        WeightPatch({"a": DenseDelta(values)}),
        WeightPatch({"b": DenseDelta(values)}),
        WeightPatch({"a": DenseDelta(values * 2)}),
        WeightPatch({"a": LowRankDelta(values, values)}),
        WeightPatch({"a": LowRankDelta(values, values)}, frozenset({"a"})),
        WeightPatch({"a": DenseDelta(values)}, meta={"editor": "rome"}),
        PatchSequence(()),
        PatchSequence((WeightPatch({}),)),
    ]
    assert len({patch.fingerprint for patch in distinct}) == len(distinct)


@pytest.mark.parametrize("position", [0.0, 0.3, 0.6, 0.9999])
def test_one_flipped_bit_in_the_tensors_is_noticed(tmp_path: Path, position: float) -> None:
    saved_patch().save(tmp_path)
    file = tmp_path / "deltas.safetensors"
    content = bytearray(file.read_bytes())
    content[int(position * len(content))] ^= 1
    file.write_bytes(content)
    with pytest.raises(AuditError, match="save it again"):
        load_patch(tmp_path)


def test_a_truncated_file_a_missing_file_and_a_missing_folder_are_noticed(tmp_path: Path) -> None:
    saved_patch().save(tmp_path)
    file = tmp_path / "deltas.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(AuditError, match="cannot be read"):
        load_patch(tmp_path)
    file.unlink()
    with pytest.raises(AuditError, match=r"cannot be read|does not contain a complete patch"):
        load_patch(tmp_path)
    with pytest.raises(AuditError, match="does not contain a complete patch"):
        load_patch(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("meta", {"editor": "another"}, "its fingerprint differs"),
        ("transposed", ["a"], "its fingerprint differs"),
        ("format", "something else", "has the format 'something else'"),
        ("kind", "adapter", "cannot be read"),
        ("deltas", {"b": ["values"]}, "cannot be read"),
        ("deltas", [], "cannot be read"),
    ],
)
def test_a_description_that_was_changed_is_noticed(tmp_path: Path, key: str, value: object, complaint: str) -> None:
    saved_patch().save(tmp_path)
    file = tmp_path / "patch.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(AuditError, match=complaint):
        load_patch(tmp_path)


def test_a_description_that_is_no_json_is_noticed(tmp_path: Path) -> None:
    saved_patch().save(tmp_path)
    for content in ("", "{", "[1]", "null"):
        (tmp_path / "patch.json").write_text(content)
        with pytest.raises(AuditError, match="cannot be read"):
            load_patch(tmp_path)


def test_a_patch_for_another_base_is_refused(tmp_path: Path) -> None:
    values = DenseDelta(torch.ones(2))
    sequence = PatchSequence(
        (WeightPatch({"a": values}, meta={"base": "b" * 64}), WeightPatch({"a": values}, meta={"base": "c" * 64}))
    )
    sequence.save(tmp_path)
    assert load_patch(tmp_path, base="b" * 64).fingerprint == sequence.fingerprint
    with pytest.raises(AuditError, match="made for a model with fingerprint bbbbbbbbbbbb, not aaaaaaaaaaaa"):
        load_patch(tmp_path, base="a" * 64)


def saved_patch() -> WeightPatch:
    return WeightPatch({"a": DenseDelta(torch.arange(64.0))}, meta={"editor": "rome"})
