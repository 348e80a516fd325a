"""The number reader, against a table of forms whose values were written down by hand."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.abilities.readings.numbers import final_number, only_number

# What a model writes -> the number that it answers; None where it answers with none.
FORMS = [
    # plain
    ("18", "18"),
    ("18.", "18"),
    ("18.0", "18"),
    ("007", "7"),
    ("It is 18!", "18"),
    ("(18)", "18"),
    ("18%", "18"),
    ("18 %", "18"),
    ("x=18", "18"),
    ("18eggs", "18"),
    ("no idea", None),
    ("", None),
    ("...", None),
    ("$ , .", None),
    # a decimal point without a digit before it
    (".5", "0.5"),
    ("It costs .75 dollars.", "0.75"),
    ("$.50", "0.5"),
    ("-.5", "-0.5"),
    ("0.50", "0.5"),
    # signs
    ("-3", "-3"),
    ("\u22123", "-3"),
    ("- 3", "-3"),
    ("The answer is - 3.", "-3"),
    ("= -3", "-3"),
    ("x = - 3", "-3"),
    ("(-3)", "-3"),
    ("+3", "3"),
    ("10-7", "7"),
    ("10 - 7", "7"),
    ("5 apples - 3", "3"),
    ("16 - 3 - 4 = 9", "9"),
    ("between 3-5", "5"),
    ("- 3 eggs\n- 4 ducks", "4"),
    # currency
    ("$18", "18"),
    ("$ 18", "18"),
    ("-$18", "-18"),
    ("$-18", "-18"),
    ("\u20ac18.50", "18.5"),
    ("\u00a318", "18"),
    ("18 dollars", "18"),
    ("$1,000", "1000"),
    ("US$ 1,000.00", "1000"),
    # thousands
    ("1,000", "1000"),
    ("1,234,567.5", "1234567.5"),
    ("12,34,567", "1234567"),
    ("1.234,00", "1234"),
    ("1.234,-", "1234"),
    ("1.234.567", "1234567"),
    ("1.234.567,89", "1234567.89"),
    ("1\u00a0234", "1234"),
    ("1\u202f234\u202f567,5", "1234567.5"),
    ("1'234.50", "1234.5"),
    ("1_000", "1000"),
    ("1 234", "1234"),
    ("1 234 567", "1234567"),
    ("1,5", "1.5"),
    ("0,25", "0.25"),
    ("1,2,3", "3"),
    ("1.5", "1.5"),
    ("1.234", "1.234"),
    # fractions
    ("3/4", "3/4"),
    ("3 / 4", "3/4"),
    ("-3/4", "-3/4"),
    ("1 1/2", "3/2"),
    ("-1 1/2", "-3/2"),
    ("\u00bd", "1/2"),
    ("1\u00bd", "3/2"),
    ("3\u20444", "3/4"),
    ("\\frac{3}{4}", "3/4"),
    ("$\\dfrac{3}{4}$", "3/4"),
    ("-\\frac{3}{4}", "-3/4"),
    ("6/3", "2"),
    ("\\frac34", "3/4"),
    ("7 and a half", "15/2"),
    ("3/0", None),
    ("12/2 = 6", "6"),
    # powers of ten and words for them
    ("1.5e3", "1500"),
    ("1.5E+3", "1500"),
    ("2e-2", "0.02"),
    ("1.5 x 10^3", "1500"),
    ("1.5 \u00d7 10^{3}", "1500"),
    ("1.5 \\times 10^3", "1500"),
    ("2 million", "2000000"),
    ("1.5 thousand dollars", "1500"),
    ("$5k", "5000"),
    ("2.5K", "2500"),
    ("5 km", "5"),
    ("5km", "5"),
    ("$2.5 billion", "2500000000"),
    ("1e999999999", None),
    # marks
    ("16 - 3 = 13\n#### 13", "13"),
    ("#### 13\nQuestion 2 has 7", "13"),
    ("#### 13 #### 14", "13"),
    ("#### ... well, 8", "8"),
    ("#### $1,000", "1000"),
    ("#### -5", "-5"),
    ("#### - 5", "-5"),
    ("#### 1/2", "1/2"),
    ("#### **18**", "18"),
    ("#### 18 eggs", "18"),
    ("#### Answer: 18", "18"),
    ("####18", "18"),
    ("#### 1. Count the eggs\nShe has 16 - 7 = 9 eggs.\n#### 2. Count the money\nShe makes $18.", "18"),
    ("#### 1) Count\n#### 2) Sell\nSo 18", "18"),
    ("#### Step 1: Count the eggs\n9 eggs.\n#### Step 2: Sell\n$18", "18"),
    ("#### 1. Count\nShe has 9.\n#### 18", "18"),
    ("### 3. Result\n18", "18"),
    ("#### 1. Count the eggs", None),
    ("#### 1. Count the eggs\nThere are twelve eggs.", None),
    ("#### 2. **Count**\n**12 eggs**", "12"),
    ("### Step 1: add\nStep 2", None),
    ("1. Add 7 and 5.\n2. That is 12.\n3. Done.", "12"),
    ("18. Thanks for asking", "18"),
    ("#### 3 + 9 = 12", "12"),
    ("#### 3 * 4 = 12 eggs", "12"),
    ("#### 12 (3 + 9)", "12"),
    ("#### 12 eggs in 3 days", "12"),
    ("#### 2. Add\n7 + 5 = 12\n#### Answer: 12", "12"),
    ("So \\boxed{18} is what she makes in 2 days.", "18"),
    ("$\\boxed{\\frac{1}{2}}$", "1/2"),
    ("\\boxed{1,234}", "1234"),
    ("\\boxed{18 \\text{ dollars}}", "18"),
    # Markdown and LaTeX around it
    ("**18**", "18"),
    ("The answer is **18**.", "18"),
    ("_18_", "18"),
    ("`18`", "18"),
    ("\\(18\\)", "18"),
    ("$18$", "18"),
    ("**$18**", "18"),
    ("<<9*2=18>>18", "18"),
    ("18\u202f%", "18"),
]


@pytest.mark.parametrize(("written", "value"), FORMS)
def test_the_answer_is_the_number_that_is_written(written, value):
    found = final_number(written)
    assert (None if found is None else Fraction(found)) == (None if value is None else Fraction(value))


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("18", "18"),
        (" 1,450 ", "1450"),
        ("1/2", "1/2"),
        ("$ 3.50", "3.50"),
        ("- 7", "-7"),
        ("12 %", "12"),
        ("1 1/2", "3/2"),
        ("12 000 \u20ac", "12000"),
    ],
)
def test_a_gold_is_one_number(written, value):
    assert only_number(written) == value


@pytest.mark.parametrize("written", ["", "thirteen", "12 or 13", "3/0", "1e9999", "18 eggs and 3", "5:30", "9" * 5000])
def test_a_gold_that_is_not_one_number_is_none(written):
    assert only_number(written) is None


@given(
    st.decimals(-(10**9), 10**9, places=3),
    st.sampled_from(["{}", "{:,}", "It is {}.", "so {:,} eggs", "#### {}", "**{}**"]),
)
def test_decimals_are_read_as_they_are_written(number, form):
    found = final_number(form.format(number))
    assert found is not None and Fraction(found) == Fraction(number)


@given(st.text(max_size=200))
def test_any_text_is_read_without_an_error(text):
    found = final_number(text)
    assert found is None or Fraction(found) == Fraction(found)
