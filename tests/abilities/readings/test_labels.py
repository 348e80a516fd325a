"""The label reader, against a table of answers whose labels were written down by hand."""

import pytest

from audit.abilities.readings.words import label_in

TRUTH, ANSWER, TONE = ("True", "False"), ("yes", "no"), ("positive", "negative")

# What a model writes -> its label; None where the answer is ambiguous or there is none.
FORMS = [
    (TRUTH, "True", "True"),
    (TRUTH, " false.", "False"),
    (TRUTH, "TRUE!", "True"),
    (TRUTH, "True or False: False", "False"),
    (TRUTH, "True or False? True.", "True"),
    (TRUTH, "(True/False) False", "False"),
    (TRUTH, "true or false", None),
    (TRUTH, "Not true.", "False"),
    (TRUTH, "That is not true.", "False"),
    (TRUTH, "This isn't true", "False"),
    (TRUTH, "This isn\u2019t true", "False"),
    (TRUTH, "It cannot be true.", "False"),
    (TRUTH, "It can't be true.", "False"),
    (TRUTH, "It is not false.", "True"),
    (TRUTH, "It is not necessarily true.", "False"),
    (TRUTH, "It is false that this is true.", "False"),
    (TRUTH, "True, because it is not false.", "True"),
    (TRUTH, "No, that is not true.", "False"),
    (TRUTH, "I am not sure if it is true or false.", None),
    (TRUTH, "I don't know whether it is true.", None),
    (TRUTH, "It is unclear whether this is true. False", "False"),
    (TRUTH, "Is it true? False.", "False"),
    (TRUTH, "untrue", None),
    (TRUTH, "Truely", None),
    (TRUTH, "**True**", "True"),
    (TRUTH, "__False__", "False"),
    (TRUTH, "`True`", "True"),
    (TRUTH, '{"answer": "False"}', "False"),
    (TRUTH, "The answer is False.", "False"),
    (TRUTH, "The text says that it is true of cats. The answer is: False.", "False"),
    (TRUTH, "**Answer:** True", "True"),
    (TRUTH, "Answer: It is not true.", "False"),
    (TRUTH, "True and False", None),
    (ANSWER, "yes", "yes"),
    (ANSWER, "Yes, it does.", "yes"),
    (ANSWER, "No.", "no"),
    (ANSWER, "_Yes_", "yes"),
    (ANSWER, "Yes/No: No", "no"),
    (ANSWER, "yes or no: yes", "yes"),
    (ANSWER, "(Yes or No)\nNo", "no"),
    (ANSWER, "yes_no", None),
    (ANSWER, "Yes and no.", None),
    (ANSWER, "I don't think so.", None),
    (ANSWER, "I know.", None),
    (ANSWER, "maybe", None),
    (ANSWER, "YES, of course, no doubt", "yes"),
    (ANSWER, "Yes, not no", "yes"),
    (ANSWER, "The answer is no.", "no"),
    (ANSWER, "The answer is not yes.", "no"),
    (ANSWER, "Final answer: **yes**", "yes"),
    (ANSWER, "Nope.", "no"),
    (ANSWER, "Yeah!", "yes"),
    (ANSWER, "", None),
    (TONE, "positive", "positive"),
    (TONE, "The sentence is positive.", "positive"),
    (TONE, "The sentence is not positive.", "negative"),
    (TONE, "It isn't negative at all.", "positive"),
    (TONE, "negative, not positive", "negative"),
    (TONE, "not negative but positive", "positive"),
    (TONE, "Not only positive but glowing.", "positive"),
    (TONE, "far from positive", "negative"),
    (TONE, "anything but positive", "negative"),
    (TONE, "There is no positive word in it.", "negative"),
    (TONE, "It never gets positive.", "negative"),
    (TONE, "neither positive nor negative", None),
    (TONE, "both positive and negative", None),
    (TONE, "positive/negative", None),
    (TONE, "Is this sentence positive or negative? Negative", "negative"),
    (TONE, "Sentiment: Positive", "positive"),
    (TONE, "Sentiment: **Negative**", "negative"),
    (TONE, "A.\nPositive", "positive"),
    (TONE, "positively", None),
    (TONE, "It could be positive or negative.", None),
    (TONE, "mixed", None),
]


@pytest.mark.parametrize(("labels", "written", "label"), FORMS)
def test_the_label_is_what_the_answer_says(labels, written, label):
    found = label_in(written, labels)
    assert (found.value, found.parseable) == (label, label is not None)


@pytest.mark.parametrize("labels", [TRUTH, ANSWER, TONE])
def test_the_case_and_the_mark_of_a_label_do_not_matter(labels):
    for label in labels:
        for form in (
            "{}",
            " {}",
            "{}.",
            "**{}**",
            "_{}_",
            "*{}*",
            '"{}"',
            "({})",
            "{}\n",
            "- {}",
            "> {}",
            "# {}",
            "Answer: {}",
        ):
            for written in (label, label.upper(), label.lower()):
                assert label_in(form.format(written), labels).value == label, form
