"""Further edit requests made from given ones, for editors that are trained on edits.

    more = request_variants(requests, count=8, seed=0)  # 8 for each request

A variant edits the subject of one request. In half of them the prompt stays, and the new target is that of another
request with the same prompt, if there is one. In the others the prompt and the paraphrases are those of another
request, with its old or new target. So a few subjects, prompts and targets give many edits, most of which are not
sensible facts; what an editor learns from them is the way from a prompt and a target to an update.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from audit.edits.requests import EditRequest, Probe


def request_variants(requests: Sequence[EditRequest], count: int, seed: int) -> tuple[EditRequest, ...]:
    """`count` different variants of each request, in order; fewer if there are not so many."""
    rng = Random(f"variants {seed}")
    targets: dict[str, list[str]] = {}  # by prompt
    for request in requests:
        targets.setdefault(request.prompt, []).extend(filter(None, (request.target_new, request.target_true)))
    found: list[EditRequest] = []
    for request in requests:
        own: dict[tuple[str, str], EditRequest] = {}
        others = [target for target in targets[request.prompt] if target not in _answers(request)]
        for number in range(2 * count):  # some are repeated
            if number % 2 and others:
                variant = replace(request, target_new=rng.choice(others))
            else:
                variant = _recombined(request, rng.choice(requests), rng)
            if variant.prompt != request.prompt or variant.target_new not in _answers(request):
                own.setdefault((variant.prompt, variant.target_new), variant)
        kept = list(own.values())[:count]
        found += [replace(one, case_id=f"{request.case_id}-{number}") for number, one in enumerate(kept, 1)]
    return tuple(found)


def _recombined(request: EditRequest, other: EditRequest, rng: Random) -> EditRequest:
    """The subject of `request` in the prompts of `other`, with one of its targets; `other`'s fact must not change."""
    own_fact = [Probe(other.filled_prompt, other.target_true)] if other.target_true else []
    return EditRequest(
        case_id=request.case_id,
        subject=request.subject,
        prompt=other.prompt,
        target_new=rng.choice(_answers(other)),
        paraphrases=tuple(
            text.replace(other.subject, request.subject) for text in other.paraphrases if other.subject in text
        ),
        neighborhood=(*own_fact, *other.neighborhood),
    )


def _answers(request: EditRequest) -> list[str]:
    return [target for target in (request.target_new, request.target_true) if target]
