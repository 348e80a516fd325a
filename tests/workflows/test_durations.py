"""Time estimates: tokens are counted, sizes come from file headers, and the machine is timed without weights."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.abilities.contract import Answer, Item, Score
from audit.engine import Decoding
from audit.errors import AuditError
from audit.workflows.durations import (
    Machine,
    ModelFiles,
    Work,
    _in_numpy,
    _in_torch,
    guessed_tokens,
    machine_speed,
    work_of,
)
from tests.tiny_models import build_tiny_gpt2, build_tiny_llama

WORDS = {"gpt2": build_tiny_gpt2, "llama": build_tiny_llama}


class Spelling:
    """Asks to spell; a right answer is as long as its word. `limit` 0 stands for choices to be ranked."""

    name = title = data_name = metric = protocol = "spelling"
    reading = "answers"
    scorer = None

    def __init__(self, limit: int) -> None:
        self.decoding = Decoding(limit) if limit else None

    def prompt(self, item: Item) -> str:
        return f"Spell it: {item.gold[0]}"

    def gold_answer(self, item: Item) -> str:
        return item.gold[0]

    def item(self, row: object, key: str) -> Item:
        raise NotImplementedError

    def parse(self, text: str) -> Answer:
        raise NotImplementedError

    def score(self, item: Item, answer: Answer) -> Score:
        raise NotImplementedError

    def floor(self, items: object) -> float:
        raise NotImplementedError


def items(count: int, word: str = "abcd") -> list[Item]:
    return [Item(str(k), "spelling", {}, (f"{k:03}{word}",), str(k), choices=("yes", "no")) for k in range(count)]


def letters(text: str) -> float:
    return float(len(text))


def test_the_shared_beginning_of_prompts_is_read_once() -> None:
    work = work_of(Spelling(20), items(4), letters)
    assert work == Work(items=4, read=4 * len("0abcd") + len("Spell it: 00"), written=4 * 8, at_most=80)


def test_answers_are_not_longer_than_their_limit() -> None:
    assert work_of(Spelling(5), items(3), letters).written == 15


def test_choices_are_only_read() -> None:
    work = work_of(Spelling(0), items(2), letters)
    assert (work.written, work.at_most) == (0, 0)
    assert work.read == len("Spell it: 000abcd") + len("1abcd") - 1 + 2 * len("yesno") + 1


def test_a_hundred_items_represent_more() -> None:
    some, more = (work_of(Spelling(20), items(count), letters) for count in (100, 900))
    assert more.written == 9 * some.written
    assert more.read == pytest.approx(9 * some.read, rel=0.2)  # longer numbers


@pytest.mark.parametrize("family", WORDS)
def test_the_size_of_a_model_comes_from_the_headers_of_its_files(family: str, tmp_path: Path) -> None:
    lm = WORDS[family]()
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    matrices = {name: value for name, value in lm.model.named_parameters() if value.dim() > 1}
    words = {name: value for name, value in matrices.items() if lm.model.config.vocab_size in value.shape}
    files = ModelFiles.of(str(tmp_path))
    assert files is not None
    blocks = sum(value.numel() for name, value in matrices.items() if name not in words)
    assert files.matrices == (blocks, max(value.numel() for value in words.values()))
    text = "Mara Lind was born in Velden."
    assert files.tokens_of(text) == len(lm.tokenizer(text, add_special_tokens=False)["input_ids"])
    assert files.context == 256


def test_tokens_are_estimated_from_letters_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"n_positions": 16}', encoding="utf-8")
    files = ModelFiles.of(str(tmp_path))
    assert files is not None
    assert files.tokens_of("12345678") == guessed_tokens("12345678") == 2
    assert files.context == 0  # a guess is no reason to refuse a prompt


def test_a_hub_model_is_found_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--owner--tiny"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40, encoding="utf-8")
    (snapshot / "config.json").write_text('{"text_config": {"hidden_size": 8}}', encoding="utf-8")
    files = ModelFiles.of("owner/tiny")
    assert files is not None
    assert (files.folder, files.number("hidden_size", "n_embd")) == (snapshot, 8)
    assert ModelFiles.of("owner/tiny", "another-branch") is None


@pytest.mark.parametrize("name", ["owner/no-such-model", "./no-such-folder", "not a name at all?"])
def test_a_missing_model_has_no_files(name: str) -> None:
    assert ModelFiles.of(name) is None


def test_a_pocket_model_is_timed_without_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.workflows.durations.MEASURED_FOR", 0.01)
    monkeypatch.setattr("audit.models.loading.load_language_model", None)
    files = ModelFiles.of("pocket-gpt2")
    assert files is not None
    machine = machine_speed(files, "cpu", "auto")
    assert (machine.device, machine.dtype) == ("cpu", "float32")  # what pocket models are computed in
    assert 0 < machine.read < 0.1
    assert 0 < machine.written < 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cpu_is_timed_in_the_dtype_of_the_run(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.workflows.durations.MEASURED_FOR", 0.01)
    monkeypatch.setattr("audit.workflows.durations._has_accelerator", lambda: False)
    files = ModelFiles.of("pocket-llama")
    assert files is not None
    machine = machine_speed(files, "auto", dtype)
    assert (machine.device, machine.dtype) == ("cpu", dtype)
    assert min(machine.read, machine.written) > 0


def test_numpy_and_torch_timings_of_a_cpu_agree_roughly() -> None:
    sizes = 192, 576, 1728
    by_numpy, by_torch = _in_numpy(*sizes), _in_torch(*sizes, 6, "cpu", "float32")
    ratios = [
        min(timed(one) for _ in range(5)) / min(timed(other) for _ in range(5))
        for one, other in ((by_numpy.read, by_torch.read), (by_numpy.write, by_torch.write))
    ]
    assert all(0.05 < ratio < 5 for ratio in ratios)  # torch's block also attends and normalizes


def timed(call: Callable[[], object]) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_seconds_add_up_tokens_read_and_written() -> None:
    machine, work = Machine(0.5, 2.0, "cpu", "float32"), Work(1, read=10, written=3, at_most=8)
    assert (machine.seconds(work), machine.seconds_at_most(work)) == (11.0, 21.0)


def test_a_model_or_device_that_cannot_be_timed_is_an_error(tmp_path: Path) -> None:
    files = ModelFiles.of("pocket-gpt2")
    assert files is not None
    with pytest.raises(AuditError, match="the speed of the device 'cuda:99' cannot be measured"):
        machine_speed(files, "cuda:99", "auto")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(AuditError, match="has no safetensors weights"):
        machine_speed(ModelFiles(tmp_path), "cpu", "auto")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(AuditError, match=r"config\.json cannot be read"):
        machine_speed(ModelFiles(tmp_path), "cpu", "auto")
