import pytest

from audit.errors import AuditError
from audit.reports.verdict_sentences import verdict_sentence
from audit.verdicts.margins import Points, Retained, margin_of, parse_margin
from audit.verdicts.verdict import judge


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("0.03", Points(0.03)),
        (" 3pp ", Points(0.03)),
        ("2.5 PP", Points(0.025)),
        ("90%", Retained(0.9)),
        ("99.5 %", Retained(0.995)),
    ],
)
def test_a_margin_is_points_or_a_share(text, margin):
    assert parse_margin(text) == margin
    assert parse_margin(str(margin)) == margin


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lots", "'lots' is not a number; write 0.03, 3pp or 90%"),
        ("pp", "'' is not a number"),
        ("nan", "not a finite number"),
        ("0", "between 0 and 1 score points, both excluded"),
        ("3", "between 0 and 1 score points, both excluded"),
        ("-1pp", "between 0 and 1 score points"),
        ("3%", "for a drop of 3 points write 3pp"),
        ("100%", "from 50% to below 100%"),
    ],
)
def test_what_is_no_margin_is_refused_in_one_sentence(text, message):
    with pytest.raises(AuditError, match=message):
        parse_margin(text)


def test_a_share_allows_what_lies_above_it():
    assert Retained(0.9).at(0.8, 0.5) == pytest.approx(0.03)
    assert Retained(0.9).at(0.4, 0.5) == 0.0
    assert Points(0.03).at(0.8, 0.5) == 0.03


@pytest.mark.parametrize("margin", [Points(0.04), Retained(0.85)])
@pytest.mark.parametrize(("base", "edited"), [(0.8, 0.77), (0.8, 0.75), (0.9, 0.5)])
def test_the_line_is_above_zero_exactly_where_the_margin_is_exceeded(margin, base, edited):
    kept, shift = margin.line(0.5)
    assert (kept * base - edited - shift > 1e-12) == (base - edited > margin.at(base, 0.5) + 1e-12)


def test_a_number_is_points():
    assert margin_of(0.05) == Points(0.05)
    assert margin_of(Retained(0.9)) == Retained(0.9)
    assert margin_of("90%") == Retained(0.9)


def test_a_verdict_names_a_share_with_the_points_that_it_comes_to():
    scores = [1.0] * 180 + [0.0] * 20
    said = verdict_sentence(judge(scores, scores, margin=Retained(0.9), floor=0.5), "90%")
    assert said.endswith("within the margin of 0.040 (to keep 90% of what lies above the floor).")


@pytest.mark.parametrize(
    "make", [lambda: Points(1.0), lambda: Points(-0.1), lambda: Retained(1.0), lambda: Retained(0)]
)
def test_a_margin_out_of_range_is_refused(make):
    with pytest.raises(AuditError, match="out of range"):
        make()
