"""Document for document, the harness's own run of the same model gives the same metrics."""

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

from audit.abilities.contract import Answers, Item
from audit.abilities.data.sources import items
from audit.abilities.lm_eval.ability import HarnessAbility, harness_ability
from audit.answering.answers import ask
from audit.engine import Decoding
from audit.engine.generation import generate
from audit.models.language_model import LanguageModel
from tests.abilities.lm_eval.tasks import CLOZE, MULTIPLE_CHOICE, ROLLING, WRITTEN, town_rows, write_task
from tests.tiny_models import TokenizerKind, build_tiny_gpt2, build_tiny_llama


@pytest.fixture(autouse=True)
def _own_data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))


def harness_samples(lm: LanguageModel, path: Path) -> list[dict[str, Any]]:
    """The samples of the harness's own run, in the order of the documents and filters."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model = HFLM(pretrained=lm.model, tokenizer=lm.tokenizer, batch_size=4)
    manager = TaskManager(include_defaults=False)
    found = simple_evaluate(model, tasks=[str(path)], task_manager=manager, bootstrap_iters=0, log_samples=True)
    assert found is not None
    (samples,) = found["samples"].values()
    return list(samples)


def asked(lm: LanguageModel, ability: HarnessAbility) -> tuple[list[Item], Answers]:
    drawn = sorted(items(ability, ability.source, None, 0), key=lambda item: int(item.fields["doc_id"]))
    return drawn, ask(lm, ability, drawn)


def require_equal(lm: LanguageModel, path: Path, metric: str = "", least: int = 2) -> Answers:
    """Both runs agree on every document, and the documents do not all have the same score."""
    ability = harness_ability(f"{path}:{metric}" if metric else str(path))
    drawn, found = asked(lm, ability)
    name, _, filter_name = ability.metric.partition(",")
    samples = [one for one in harness_samples(lm, path) if one["filter"] == (filter_name or "none")]
    assert [one["doc_id"] for one in samples] == [item.fields["doc_id"] for item in drawn]
    assert [score.value for score in found.scores] == pytest.approx([float(one[name]) for one in samples], abs=1e-4)
    assert len({round(score.value, 4) for score in found.scores}) >= least
    for item, answer, raw, sample in zip(drawn, found.answers, found.raw, samples, strict=True):
        assert ability.prompt(item) == (sample["arguments"][0][0] if len(sample["arguments"][0]) > 1 else "")
        if ability.decoding is not None:
            assert answer.value == sample["resps"][0][0]
        elif len(sample["arguments"][0]) > 1:
            theirs = [one[0] for one in sample["resps"]]
            assert [sum(one) for one in raw["log_probabilities"]] == pytest.approx([one[0] for one in theirs], abs=2e-3)
            assert raw["greedy"] == [one[1] for one in theirs]
    return found


@pytest.mark.parametrize("tokenizer", ["plain", "bos", "metaspace"])
@pytest.mark.parametrize("delimiter", [" ", "", "\\n"])
def test_multiple_choice(tmp_path: Path, tokenizer: TokenizerKind, delimiter: str) -> None:
    text = MULTIPLE_CHOICE + f'target_delimiter: "{delimiter}"\n'
    path = write_task(tmp_path, "towns", text, town_rows(26), training=6)
    require_equal(build_tiny_llama(tokenizer=tokenizer), path, "acc_norm")


@pytest.mark.parametrize("tokenizer", ["plain", "bos", "metaspace"])
def test_likelihood_of_a_continuation(tmp_path: Path, tokenizer: TokenizerKind) -> None:
    lm = build_tiny_llama(tokenizer=tokenizer)
    said = generate(lm, [f"{row['who']} was born in" for row in town_rows(24)], Decoding(2, ()))
    taught = [text if k % 2 and text.strip() == text.strip(" ") else "Velden" for k, text in enumerate(said)]
    path = write_task(tmp_path, "births", CLOZE, town_rows(24, [text.strip(" ") or "x" for text in taught]))
    found = require_equal(lm, path, least=1)
    assert harness_ability(str(path)).metric == "acc"
    assert {score.value for score in found.scores} <= {0.0, 1.0}


@pytest.mark.parametrize("metric", ["", "exact_match,whole"])
def test_written_answers_with_filters(tmp_path: Path, metric: str) -> None:
    lm = build_tiny_gpt2()
    first = harness_ability(str(write_task(tmp_path / "first", "houses", WRITTEN, town_rows(26), training=4)))
    _, written = asked(lm, first)
    said = [str(answer.value or "") for answer in written.answers]
    if not metric:
        said = ["".join(re.findall("[A-Za-z]{2}", text)[:1]).upper() for text in said]
    taught = [text if k % 2 and text else "none" for k, text in enumerate(said)]
    examples = [row["said"] for row in town_rows(4)]  # as they were, so that the prompts stay the same
    path = write_task(tmp_path / "second", "houses", WRITTEN, town_rows(26, examples + taught), training=4)
    require_equal(lm, path, metric)


def test_likelihood_of_a_whole_text(tmp_path: Path) -> None:
    path = write_task(tmp_path, "texts", ROLLING, town_rows(20))
    require_equal(build_tiny_gpt2(), path, least=10)
