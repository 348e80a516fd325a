"""Locality as a law: what no edit touched is answered as before, whatever is asked and in whatever form.

Prompts are about other subjects, other relations of the edited subjects, or nothing of the kind; words are left out of
them, sentences put before them, quotation marks or a question around them. A prompt is *disturbed* when the base and
the edited distribution of the next token are more than MAX_DIVERGENCE apart, or when the greedy answer is another
although the base model was sure of its own. When more are disturbed than tolerated, hypothesis finds the simplest.

No editor that writes weights leaves every prompt alone, so what is bounded is a share. Disturbed of 150 prompts, the
range over both pocket models and three seeds (one seed after 200 edits):

                      identity  1 rome      10 ft       10 memit    200 rome    10 vandal
    other subjects    0         0.01-0.07   0.23-0.30   0.24-0.35   0.87-0.92   0.98-1.00
    other relations   0         0.35-0.53   0.36-0.55   0.57-0.67   0.89-0.93   0.99-1.00
    unrelated text    0         0.00-0.03   0.09-0.31   0.15-0.26   0.79-0.89   0.96-1.00

The tolerated shares were fixed with these figures in view: they part a model that has spilled over from one that is
lost. On a large model, which knows its subjects apart, ask for much less.
"""

import pytest
from hypothesis import given

from audit.measures.locality_prompts import law, sampled_prompts, untouched_prompts

MAX_DIVERGENCE = 0.1  # nats (Jensen-Shannon; at most ln 2 = 0.69): no event's probability may move by more than 0.45
PROMPTS = 150  # sampled_prompts of each kind
TOLERATED_SHARE = {"other subjects": 0.45, "other relations": 0.8, "unrelated text": 0.35}


@pytest.mark.parametrize("kind", TOLERATED_SHARE)
def test_what_no_edit_touched_is_answered_as_before(locality, kind, record_property):
    topics = locality.topics
    if not topics.cores[kind]:
        pytest.skip(f"{kind}: the edit requests and their file tell of none")
    survey = locality.survey(sampled_prompts(topics, kind, PROMPTS, locality.seed), MAX_DIVERGENCE)
    record_property(f"locality.{kind}.disturbed", survey.share)
    too_many = survey.share > TOLERATED_SHARE[kind]

    @law(search=too_many, seed=locality.seed, folder=locality.folder)
    # The @example lines of failing runs are pasted here: they are asked in every run, and tolerated in none.
    @given(prompt=untouched_prompts(topics, kind, survey.prompts))
    def answered_as_before(prompt):
        found = locality.contrast(prompt)
        if found.disturbed(MAX_DIVERGENCE):
            pytest.fail(f"{kind}: {survey}\n{found.message(MAX_DIVERGENCE)}", pytrace=False)

    answered_as_before()
    assert not too_many, f"{kind}: {survey}\n{survey.disturbed[0].message(MAX_DIVERGENCE)}"
