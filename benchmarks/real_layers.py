"""Where real models recall facts: the row of `audit locate` that recommends layers, and nothing else of its table.

    python -m benchmarks.real_layers MODEL FACTS [--traced 50] [--samples 5]

`audit locate` restores three kinds of module at every token. On SmolLM2 that is some 4,000 runs of the model for each
fact. The recommendation reads one row of it, MLPs at the subject's last token, some 150 runs. This program measures
that row with the same code, noise, window and rule. It writes results/locate-<model>.md.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from audit.edits.sources import load_requests
from audit.measures.causal_tracing import (
    KINDS,
    NOISE_SAMPLES,
    NOISE_SCALE,
    NOTHING,
    TOKEN_ROLES,
    Effects,
    KnownFact,
    Restored,
    TracedRuns,
    embedding_spread,
    recalled_facts,
    window_around,
    window_size,
)
from audit.measures.layer_recommendation import SUBJECT_LAST, recommend, sampled_facts
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.tokens import subject_span

RESULTS = Path(__file__).with_name("results")


def measure_row(lm: LanguageModel, facts: Sequence[KnownFact], samples: int, seed: int) -> tuple[Effects, torch.Tensor]:
    """The effects of MLPs at the subject's last token, as `Effects` and by fact (facts, layers)."""
    depth, hidden = lm.anatomy.depth, lm.anatomy.hidden_size
    window, scale = window_size(depth), NOISE_SCALE * embedding_spread(lm)
    generator = torch.Generator().manual_seed(seed)
    rows, clean, corrupted = [], 0.0, 0.0
    for number, fact in enumerate(facts, start=1):
        first, last = subject_span(lm.tokenizer, fact.prompt, fact.subject)
        run = TracedRuns(lm, fact, scale * torch.randn(samples, last - first + 1, hidden, generator=generator))
        places = [Restored("mlp", window_around(layer, window, depth), (run.last,)) for layer in range(depth)]
        found = run.probabilities([NOTHING, *places]).double()
        rows.append(found[1:] - found[0])
        clean, corrupted = clean + run.clean, corrupted + float(found[0])
        print(f"{number} of {len(facts)} facts", flush=True)
    by_fact, n = torch.stack(rows), len(facts)  # (facts, layers)
    curve = tuple(by_fact.mean(dim=0).tolist())
    roles = [curve if role == SUBJECT_LAST else None for role in range(len(TOKEN_ROLES))]
    nothing = (None,) * len(TOKEN_ROLES)
    by_kind = {kind: tuple(roles) if kind == "mlp" else nothing for kind in KINDS}
    counts = tuple(n if role == SUBJECT_LAST else 0 for role in range(len(TOKEN_ROLES)))
    return Effects(n, clean / n, corrupted / n, samples, window, counts, by_kind), by_fact


def report(model: str, asked: int, recalled: int, effects: Effects, by_fact: torch.Tensor, seconds: float) -> str:
    """A table of the effects with their standard errors, and the recommendation."""
    advice = recommend(effects)
    errors = (by_fact.std(dim=0) / math.sqrt(len(by_fact))).tolist()
    draws = torch.randint(len(by_fact), (2000, len(by_fact)), generator=torch.Generator().manual_seed(0))
    peaks = by_fact[draws].mean(dim=1).argmax(dim=1)  # (draws,)
    low, high = peaks.double().quantile(torch.tensor([0.05, 0.95]).double()).tolist()
    lines = [
        f"# Where {model} recalls facts",
        "",
        f"{model} recalls {recalled} of {asked} CounterFact facts; {effects.facts} of them were traced, "
        f"{effects.samples} noise samples each, {effects.window} layers restored together, {seconds:.0f} s on a busy "
        "machine.",
        f"Mean probability of the answer: {effects.clean:.3f}, with noise on the subject {effects.corrupted:.3f}.",
        "",
        f"Peak: layer {advice.rome}; over 2,000 resamples of the facts, 90 % of the peaks lie in layers "
        f"{low:.0f} to {high:.0f}. Recommended: layer={advice.rome}, layers={','.join(map(str, advice.memit))}. "
        f"At least half of the peak: layers {advice.range[0]} to {advice.range[-1]}.",
        "",
        "| layer | effect of restored MLPs at the last subject token | standard error |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {at} | {value:.4f} | {error:.4f} |"
        for at, (value, error) in enumerate(zip(advice.effects, errors, strict=True))
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("facts")
    parser.add_argument("--traced", type=int, default=50, help="facts to trace at most")
    parser.add_argument("--samples", type=int, default=NOISE_SAMPLES)
    given = parser.parse_args()
    requests = load_requests(given.facts)
    lm = load_language_model(str(given.model), device="cpu")
    facts = sampled_facts(requests, len(requests.requests), seed=0)
    known = recalled_facts(lm, facts)
    start = time.perf_counter()
    effects, by_fact = measure_row(lm, known[: given.traced], given.samples, seed=0)
    text = report(given.model.name, len(facts), len(known), effects, by_fact, time.perf_counter() - start)
    RESULTS.joinpath(f"locate-{given.model.name.split('-')[0]}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
