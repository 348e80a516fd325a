"""Locality as a property: the edited model answers prompts that no edit request concerns as the base model does.

The prompts are about other subjects, about other relations of the edited subjects, or about neither. Variants drop
words, put sentences before the prompt, or put quotation marks or a question around it. A prompt is *disturbed* if the
distributions of the next token of base and edited model differ by more than MAX_DIVERGENCE, or if the greedy answer
changes although the base model was sure of it. If too many prompts are disturbed, hypothesis finds a simple example.

Editors that write weights disturb some prompts, so the test bounds their share. Shares of 150 prompts, as the range
over both pocket models and three seeds (one seed for 200 edits):

                      identity  1 rome      10 ft       10 memit    200 rome    10 vandal
    other subjects    0         0.01-0.07   0.23-0.30   0.24-0.35   0.87-0.92   0.98-1.00
    other relations   0         0.35-0.53   0.36-0.55   0.57-0.67   0.89-0.93   0.99-1.00
    unrelated text    0         0.00-0.03   0.09-0.31   0.15-0.26   0.79-0.89   0.96-1.00

and on a real model, SmolLM2-135M (Q4), with CounterFact rows and one seed:

                      1 rome    10 ft     10 memit  10 vandal
    other subjects    0         0.19      0         1.00
    other relations   0.61      0.11      0.43      1.00
    unrelated text    0         0         0         1.00

The tolerated shares were chosen from the first table: they separate a model with side effects from a destroyed one, and
they do so on the real model, too. They apply to every model until you change them. For a model of your own, run an
editor that you trust and one that you do not, and choose between the shares that `--junitxml=FILE` holds.

With a CounterFact file, other subjects are its neighborhood probes and its other rows. Unrelated text of a real model
is plain English, or the end of the corpus if `--editor-config covariance=` names a text file. The report also has the
change of the answers to neighborhood probes in nats per token (0 is local).
"""

import pytest
from hypothesis import given

from audit.measures.locality_prompts import law, sampled_prompts, untouched_prompts

MAX_DIVERGENCE = 0.1  # nats (Jensen-Shannon; at most ln 2 = 0.69): no probability may change by more than 0.45
PROMPTS = 150  # sampled prompts of each kind
TOLERATED_SHARE = {"other subjects": 0.45, "other relations": 0.8, "unrelated text": 0.35}


@pytest.mark.parametrize("kind", TOLERATED_SHARE)
def test_prompts_outside_the_edits_keep_their_answers(locality, kind, record_property):
    topics = locality.topics
    if not topics.cores[kind]:
        pytest.skip(f"{kind}: the edit requests and their file give no such prompts")
    survey = locality.survey(sampled_prompts(topics, kind, PROMPTS, locality.seed), MAX_DIVERGENCE)
    record_property(f"locality.{kind}.disturbed", survey.share)
    too_many = survey.share > TOLERATED_SHARE[kind]

    @law(search=too_many, seed=locality.seed, folder=locality.folder)
    # Paste the @example lines of failing runs here: later runs ask these prompts and tolerate no disturbance.
    @given(prompt=untouched_prompts(topics, kind, survey.prompts))
    def answered_as_before(prompt):
        found = locality.contrast(prompt)
        if found.disturbed(MAX_DIVERGENCE):
            pytest.fail(f"{kind}: {survey}\n{found.message(MAX_DIVERGENCE)}", pytrace=False)

    answered_as_before()
    assert not too_many, f"{kind}: {survey}\n{survey.disturbed[0].message(MAX_DIVERGENCE)}"
