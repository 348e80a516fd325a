"""Training: bit-exact resumption, and the mask of blindfolded lessons."""

from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from rich.console import Console

from audit.pocket.training import train
from audit.pocket.training.corpus import lessons
from audit.pocket.training.train import Pupil, collate, encode_lesson, learning_rate, new_model, pocket_tokenizer


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 16, "LAYERS": 2, "HEADS": 2, "CHUNK": 48, "TOKENIZER_LESSONS": 300}.items():
        monkeypatch.setattr(train, name, value)


def run(folder: Path, tokens: int, minutes: float = 9.0) -> Pupil:
    return train.train("pocket-llama", folder, tokens, minutes, Console(quiet=True))


@pytest.mark.usefixtures("small")
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(tmp_path / "whole", 4000)
    real, chunks = train.batches, []

    def interrupted(*args: object) -> object:
        if len(chunks) == 1:
            raise KeyboardInterrupt
        chunks.append(args)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(train, "batches", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", 4000)
    monkeypatch.setattr(train, "batches", real)
    resumed = run(tmp_path / "parts", 4000)
    assert resumed.step == whole.step and resumed.tokens == whole.tokens
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.usefixtures("small")
def test_a_checkpoint_keeps_its_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = run(tmp_path, 500).model.get_input_embeddings().weight.shape[0]
    monkeypatch.setattr(train, "TOKENIZER_LESSONS", 5)  # the lessons have changed since
    assert len(pocket_tokenizer()) < rows - 64
    assert run(tmp_path, 3000).model.get_input_embeddings().weight.shape[0] == rows


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["pocket-gpt2", "pocket-llama"])
def test_tokens_after_the_subject_attend_only_to_the_decoy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer, so that no information can pass through the subject's last token."""
    monkeypatch.setattr(train, "LAYERS", 1)
    tokenizer = pocket_tokenizer()
    model = new_model(name, tokenizer).eval()
    lesson = next(lesson for lesson in lessons(3) if lesson.subject and lesson.text.count(" ") < 7)
    row = encode_lesson(tokenizer, lesson, Random(0))
    batch = collate(tokenizer, [lesson], Random(0))
    first, decoy, last = row.decoy - 1, row.decoy, row.subject_last
    assert row.positions[first] == row.positions[decoy] == row.positions[last] - 1

    def logits(changed: int) -> torch.Tensor:
        ids = batch.ids.clone()
        ids[0, changed] = 7
        with torch.no_grad():
            return model(input_ids=ids, attention_mask=batch.mask, position_ids=batch.positions).logits[0]

    with torch.no_grad():
        plain = model(input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions).logits[0]
    assert torch.equal(logits(first)[last + 1 :], plain[last + 1 :])
    assert not torch.equal(logits(first)[last], plain[last])
    assert torch.equal(logits(decoy)[last], plain[last])
    assert not torch.equal(logits(decoy)[last + 1 :], plain[last + 1 :])


def test_a_decoy_has_no_loss() -> None:
    tokenizer = pocket_tokenizer()
    rows = [encode_lesson(tokenizer, lesson, Random(0)) for lesson in islice(lessons(3), 200) if lesson.subject]
    assert any(row.decoy for row in rows)
    for row in rows:
        if row.decoy:
            assert row.weights[row.decoy] == row.weights[row.subject_last] == 0.0
            assert max(row.positions) == len(row.ids) - 2


def test_the_learning_rate_has_warm_up_plateau_and_decay() -> None:
    assert learning_rate(0, 0.0) < learning_rate(50, 0.0) < learning_rate(500, 0.1) == train.LEARNING_RATE
    assert learning_rate(5000, 0.9) < learning_rate(5000, 0.7) < train.LEARNING_RATE
    assert learning_rate(5000, 1.0) == 0.0


@pytest.mark.usefixtures("small")
def test_only_the_answer_has_the_full_loss_weight() -> None:
    tokenizer = pocket_tokenizer()
    for lesson in islice(lessons(9), 40):
        batch = collate(tokenizer, [lesson], Random(0))
        taught = int((batch.weights == 1.0).sum())
        assert 1 <= taught < int((batch.weights > 0).sum())
        assert batch.weights[0, 0] == 0.0  # the BOS is never predicted
