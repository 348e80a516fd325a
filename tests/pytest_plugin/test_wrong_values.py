"""A wrong option value: one clear sentence, exit code 4, no traceback, nothing written."""

import pytest

from tests.pytest_plugin.conftest import Suites

pytest_plugins = ("pytester",)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--edit-mode batch", "--edit-mode 'batch': give one of instance-single, *"),
        ("--edit-count 0", "--edit-count '0': give a whole number of at least 1."),
        ("--edit-count ten", "--edit-count 'ten': give a whole number of at least 1."),
        ("--edit-batch-size 1.5", "--edit-batch-size '1.5': give a whole number of at least 1."),
        ("--editor-config layers", "--editor-config 'layers': write KEY=VALUE, for example layers=3,4."),
        ("--editor-config a=1 --editor-config a=2", "--editor-config 'a=2': a is already set to '1'; set it once."),
        ("--margin reasoning", "--margin 'reasoning': write ABILITY=MARGIN, *"),
        ("--margin resoning=0.03", "--margin 'resoning=0.03': there is no ability 'resoning'; *mean 'reasoning'?)."),
        ("--margin reasoning=much", "--margin 'reasoning=much': 'much' is not a number; write 0.03, 3pp or 90%."),
        ("--margin reasoning=3", "--margin 'reasoning=3': a margin lies between 0 and 1 score points, *"),
        ("--margin reasoning=nan", "--margin 'reasoning=nan': 'nan' is not a finite number; *"),
        ("--margin ner=1pp --margin ner=2pp", "--margin 'ner=2pp': ner already has a margin (0.01); give one."),
        ("--inconclusive warn", "--inconclusive 'warn': give one of fail, skip."),
        ("--limit -5", "--limit '-5': give a whole number of at least 1."),
        ("--seed x", "--seed 'x': give a whole number of at least 0."),
        ("--device gpu", "--device 'gpu': give one of auto, cpu, cuda, cuda:N, mps*."),
        ("--dtype float8", "--dtype 'float8': give one of auto, float32, bfloat16, float16*."),
        ("--reports test_sentiment.py", "--reports test_sentiment.py: that is a file, not a folder; give a folder."),
        ("--store test_sentiment.py/x", "--store test_sentiment.py/x: that is a file, not a folder; give a folder."),
        ("--protocol paper", "--protocol 'paper': give one of standard, gu2024."),
        ("--shots -1", "--shots '-1': give a whole number of at least 0."),
        ("--shots two", "--shots 'two': give a whole number of at least 0."),
        ("--shots 2 --protocol gu2024", "--shots 2: gu2024 asks without examples; leave one of the two out."),
        ("--chat-template --protocol gu2024", "--chat-template: gu2024 has prompts of its own; leave one of *"),
        ("--chat-template --editor ike", "--chat-template: ike puts its demonstrations before the prompt, *"),
        ("--data=", "--data is empty: give a name, or leave the option out for its default."),
        ("--no-store --store x", "--store x and --no-store contradict each other: give one of the two."),
        ("--editor nobody", "there is no editor 'nobody'; choose from memit, rome."),
    ],
)
def test_a_wrong_value_is_one_sentence_and_exit_code_4(suites: Suites, options: str, sentence: str) -> None:
    result = suites.run("sentiment", *options.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = result.stdout.str() + result.stderr.str()
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])
    assert "Traceback" not in said
    assert "passed" not in said
    assert not (suites.path / "reports").exists()


def test_an_error_of_the_editor_ends_the_run(suites: Suites) -> None:
    result = suites.run("reasoning sentiment", "--editor", "broken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*the subject 'Mara' is not in the prompt; mend request case-1.*"])
    assert "Traceback" not in result.stdout.str()
    assert not (suites.path / "reports").exists()
