"""`VALUE` and `NAME=VALUE`, as `audit compare` takes margins, floors and metrics."""

import pytest

from audit.errors import AuditError
from audit.settings.values import parse_named


def test_values_are_for_all_or_for_one() -> None:
    assert parse_named("--floor", []) == {}
    assert parse_named("--floor", ["0.1", " nli = 0.5 "]) == {"": "0.1", "nli": "0.5"}
    assert parse_named("--metric", ["gsm8k=exact_match,strict-match"]) == {"gsm8k": "exact_match,strict-match"}


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([""], "--floor '': write --floor VALUE, or --floor NAME=VALUE for one ability."),
        (["nli="], "--floor 'nli=': write --floor VALUE"),
        (["=1"], "--floor '=1': write --floor VALUE"),
        (["nli=1", "nli=2"], "--floor 'nli=2': nli already has the value 1; give one."),
        (["1", "2"], "--floor '2': every ability already has the value 1; give one."),
    ],
)
def test_wrong_ones_are_one_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(AuditError) as caught:
        parse_named("--floor", texts)
    assert str(caught.value).startswith(sentence)
