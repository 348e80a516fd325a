"""The whole training of a MEND network for one's own model and file of edits."""

import json
from pathlib import Path
from random import Random

import pytest

from audit.editors import load_editor
from audit.editors.mend.network import CARD_FILE
from audit.edits.sources import load_requests
from audit.errors import AuditError
from audit.models.fingerprints import weights_fingerprint
from audit.models.loading import load_language_model
from audit.workflows.train_mend import CHECKPOINT, MendCourse, train
from tests.tiny_models import build_tiny_llama

TRAINING = {
    "layers": "1",
    "rank": "2",
    "accumulate": "1",
    "validate_every": "2",
    "first_rate": "1e-3",
    "text_tokens": "8",
    "batch_sizes": "1,2",
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    lm = build_tiny_llama(layers=2)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def edits(tmp_path: Path) -> str:
    rng = Random(0)
    rows = [
        {
            "subject": name,
            "prompt": "{} was born in",
            "target_new": rng.choice(["Velden", "Belton", "Calton"]),
            "paraphrases": [f"The birthplace of {name} is"],
            "neighborhood": [{"prompt": "Hexatech is based in", "answer": "Belton"}],
        }
        for name in (
            f"{given} {family}" for given in ("Mara", "Kara", "Gira") for family in ("Lind", "Corley", "Vo", "X")
        )
    ]
    path = tmp_path / "edits.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_training_ends_with_a_network_that_the_editor_loads(model: str, edits: str, tmp_path: Path) -> None:
    out = tmp_path / "network"
    trained = train(MendCourse(model, out, steps=2, edits=(edits,), device="cpu", overrides=TRAINING))
    card = json.loads((out / CARD_FILE).read_text())
    lm = load_language_model(model, device="cpu")
    assert card["base"] == weights_fingerprint(lm)
    assert card["training"]["steps"] == 2 and card["training"]["settings"]["rank"] == 2
    assert card["measured"] == trained.card["measured"]
    assert [name.rpartition(" ")[2] for name in card["measured"]] == ["1", "10"]  # edits in a batch
    assert all(
        scores["efficacy_n"] == 1 for scores in card["measured"].values()
    )  # one subject in twelve is held out for the test
    editor = load_editor("mend", {"weights": str(out)})
    assert len(editor.edit(lm, load_requests(edits).requests[:2]).deltas) == 3  # type: ignore[attr-defined]
    further = train(MendCourse(model, out, steps=4, edits=(edits,), resume=True, device="cpu", overrides=TRAINING))
    assert further.card["training"]["steps"] == 4
    assert (out / CHECKPOINT).is_dir()


def test_missing_or_wrong_inputs_are_errors(model: str, edits: str, tmp_path: Path) -> None:
    out = tmp_path / "network"
    with pytest.raises(AuditError, match=r"there are no training edits for .*with --edits"):
        train(MendCourse(model, out, steps=1, device="cpu"))
    with pytest.raises(AuditError, match=r"--texts words.txt needs --edits"):
        train(MendCourse("pocket-gpt2", out, steps=1, texts="words.txt", device="cpu"))
    with pytest.raises(AuditError, match="train-mend has no setting 'layer'"):
        train(MendCourse(model, out, steps=1, edits=(edits,), overrides={"layer": "1"}))
    with pytest.raises(AuditError, match="has no training to resume"):
        train(MendCourse(model, out, steps=1, edits=(edits,), resume=True, device="cpu", overrides=TRAINING))
