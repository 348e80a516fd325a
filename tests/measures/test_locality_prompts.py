"""The grammar of prompts: sampled or searched, never about an edit, and shrinking to the simplest."""

import ast
from pathlib import Path

import pytest
from hypothesis import example, find, given, settings

from audit.measures.locality_prompts import law, sampled_prompts, untouched_prompts
from audit.measures.locality_topics import KINDS, OTHER_RELATIONS, OTHER_SUBJECTS, UNRELATED, topics_of
from tests.measures.test_locality_topics import MARA, OTHERS

# Without "and" and "Holm" it would name an edited subject.
TOPICS = topics_of((MARA,), OTHERS, ("There was Mara and Lind and nobody else at all.",))


@pytest.mark.parametrize("kind", KINDS)
def test_sampled_prompts_depend_on_the_seed_only_and_extend_in_order(kind: str) -> None:
    some = sampled_prompts(TOPICS, kind, 50, 3)
    assert sampled_prompts(TOPICS, kind, 80, 3)[:50] == some
    assert sampled_prompts(TOPICS, kind, 50, 4) != some
    assert len(set(some)) > 20


@given(prompt=untouched_prompts(TOPICS, UNRELATED))
@settings(max_examples=50)
def test_left_out_words_never_form_an_edited_subject(prompt: str) -> None:
    assert not TOPICS.touched(prompt)
    assert prompt.strip()


def test_sampled_prompts_mention_edited_subjects_only_in_other_relations() -> None:
    for kind in (OTHER_SUBJECTS, UNRELATED):
        assert not any(TOPICS.touched(prompt) for prompt in sampled_prompts(TOPICS, kind, 300, 0))
    assert all("Mara Lind speaks" in prompt for prompt in sampled_prompts(TOPICS, OTHER_RELATIONS, 50, 0))


def test_shrinking_keeps_only_what_makes_the_law_fail() -> None:
    prompts = untouched_prompts(TOPICS, OTHER_SUBJECTS)
    assert find(prompts, lambda prompt: "Gira Corley" in prompt and prompt.endswith("in")) == "Gira Corley in"
    assert find(prompts, lambda prompt: prompt.startswith("YES.") and "Kara" in prompt) == "YES. Kara Quinwick"


def test_examples_always_run_and_search_only_on_demand(tmp_path: Path) -> None:
    asked: list[str] = []

    def never_of_kara(prompt: str) -> None:
        asked.append(prompt)
        if "Kara" in prompt:
            pytest.fail("of Kara", pytrace=False)

    about = given(prompt=untouched_prompts(TOPICS, OTHER_SUBJECTS))
    law(search=False, seed=0, folder=tmp_path)(about(never_of_kara))()
    assert asked == []
    pasted = example(prompt="Gira is")(about(never_of_kara))
    law(search=False, seed=0, folder=tmp_path)(pasted)()
    assert asked == ["Gira is"]
    with pytest.raises(pytest.fail.Exception, match="of Kara"):
        law(search=True, seed=0, folder=tmp_path)(about(never_of_kara))()
    assert asked[-1] == "Kara Quinwick"


def test_rare_failures_are_found_from_the_survey() -> None:
    rare = "As everybody knows:\n\nQuestion: Kara Quinwick was born in?\nAnswer:"

    def wrong(prompt: str) -> None:
        assert not ("Answer" in prompt and "\n\n" in prompt and "Kara" in prompt), repr(prompt)

    also = rare.replace("Kara Quinwick was born", "The birthplace of Kara Quinwick is")
    prompts = untouched_prompts(TOPICS, OTHER_SUBJECTS, [also, rare])
    with pytest.raises(AssertionError) as found:
        law(search=True, seed=0, folder=None)(given(prompt=prompts)(wrong))()
    prompt = ast.literal_eval(str(found.value).splitlines()[0])
    assert "Kara Quinwick" in prompt  # a name stays whole, half of it might be an edited subject's
    assert len(prompt.split()) < len(rare.split()) - 2


def test_failing_prompts_are_kept_and_run_first_but_not_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def never_of_kara(prompt: str) -> None:
        asked.append(prompt)
        assert "Kara" not in prompt

    def run(folder: Path) -> str:
        asked.clear()
        with pytest.raises(AssertionError):
            law(search=True, seed=0, folder=folder)(
                given(prompt=untouched_prompts(TOPICS, OTHER_SUBJECTS))(never_of_kara)
            )()
        return asked[0]

    monkeypatch.delenv("CI", raising=False)
    assert run(tmp_path / "kept") != "Kara Quinwick"
    assert run(tmp_path / "kept") == "Kara Quinwick"
    monkeypatch.setenv("CI", "true")
    assert run(tmp_path / "kept") != "Kara Quinwick"
    run(tmp_path / "other")
    assert not (tmp_path / "other").exists()
