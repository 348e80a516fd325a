"""Measure the scoring of answers as a share of the matrix limit of the machine, and beside lm-evaluation-harness.

    python -m benchmarks.likelihood_speed MODEL --rows gsm8k.jsonl [--limit 200] [--rounds 3] [--harness 20]

MODEL is a folder that `make real-models` fetched. The requests are GSM8K rationales behind their questions. Only useful
operations count, none on padding: two for each weight of the blocks and token, attention to the earlier tokens, and the
head on scored tokens. The limit is the best rate of the products of the model's own shapes, by the faster of the two
libraries in torch (MKL and oneDNN), on the same threads, measured before and after every round. Rates are in processor
seconds, which depend less on the load of the machine than wall seconds do; both are kept.

`--harness N` (needs lm-eval, in the test extra) sends the first N requests to the `loglikelihood` of the harness's
Hugging Face backend, on the same loaded model. Both sides run in turn (A B A B), and the sums of both are compared with
each other and with those of the same model in float64.
"""

import argparse
import copy
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from audit.engine.likelihoods import token_log_likelihoods
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from audit.models.tokens import JoinedTokens, join
from benchmarks.asking import Seconds, timed
from benchmarks.editing import machine

RESULTS = Path(__file__).parent / "results"
BAR = 0.55
SAME = 1e-4  # the largest relative difference of two log-likelihoods of one request
TOKENS = 1024  # rows of the products that give the limit
HARNESS_BATCH = 8  # the harness computes logits at every token, so that more rows may not fit into the memory

Pair = tuple[str, str]


def requests(path: Path, limit: int) -> list[Pair]:
    """Questions and rationales of the first rows of a GSM8K file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [(f"Question: {row['question']}\nAnswer:", row["answer"]) for row in rows]


def block_shapes(lm: LanguageModel) -> list[tuple[int, ...]]:
    """The shapes of the weights of one block."""
    block = lm.model.get_submodule(lm.anatomy.blocks[0])
    return sorted({tuple(weight.shape) for weight in block.parameters() if weight.dim() == 2})


def matrix_limit(shapes: Sequence[tuple[int, ...]]) -> float:
    """The best rate of one product of these shapes, in 10^9 operations a processor second."""
    products = [torch.nn.functional.linear]
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        fused = torch.ops.mkldnn._linear_pointwise.default
        products.append(lambda left, right: fused(left, right, None, "none", [], ""))
    rates = []
    for outputs, inputs in shapes:
        left, right = torch.randn(TOKENS, inputs), torch.randn(outputs, inputs)
        for product in products:
            for _ in range(6):
                _, seconds = timed(lambda: [product(left, right) for _ in range(5)])  # noqa: B023
                rates.append(5 * 2 * TOKENS * inputs * outputs / seconds.processor)
    return max(rates) / 1e9


def useful_operations(lm: LanguageModel, joined: Sequence[JoinedTokens]) -> float:
    """Of scoring the targets of these sequences, each on its own; the last token of a sequence is not computed."""
    blocks = [lm.model.get_submodule(path) for path in lm.anatomy.blocks]
    weights = sum(p.numel() for block in blocks for p in block.parameters() if p.dim() == 2)
    head = lm.model.get_output_embeddings().weight.numel()
    config = lm.model.config.get_text_config()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    # For a pair of tokens: scores, and values (2 operations each), halved because a token attends to earlier ones only.
    attention = 2 * lm.anatomy.depth * head_dim * config.num_attention_heads
    return float(
        sum(
            2 * weights * tokens + attention * tokens**2 + 2 * head * len(one.target_ids)
            for one in joined
            for tokens in [len(one.ids) - 1]
        )
    )


def score_ours(lm: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """The log-likelihood of every continuation."""
    return [math.fsum(values) for (values,) in token_log_likelihoods(lm, [[pair] for pair in pairs])]


def harness_side(lm: LanguageModel, pairs: Sequence[Pair]) -> tuple[Any, list[Any], bool]:
    """The harness's model, its requests, and whether it reads the same tokens."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    tokenizer = copy.deepcopy(lm.tokenizer)
    model = HFLM(pretrained=lm.model, tokenizer=tokenizer, batch_size=HARNESS_BATCH, device="cpu")
    same = True
    for prompt, continuation in pairs:
        one = join(lm.tokenizer, prompt, continuation)
        context, scored = model._encode_pair(prompt, f" {continuation}")
        same = same and (tuple(context), tuple(scored)) == (one.prompt_ids, one.target_ids)
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=(prompt, f" {continuation}"), idx=0)
        for prompt, continuation in pairs
    ]
    return model, asked, same


def exact_sums(lm: LanguageModel, pairs: Sequence[Pair]) -> list[float]:
    """The log-likelihood of every continuation in float64, each on its own."""
    model, sums = copy.deepcopy(lm.model).double(), []
    for prompt, continuation in pairs:
        one = join(lm.tokenizer, prompt, continuation)
        with torch.no_grad():
            logits = model(torch.tensor([one.ids[:-1]])).logits[0, len(one.prompt_ids) - 1 :]  # (scored, vocabulary)
        wanted = torch.tensor(one.target_ids)[:, None]
        sums.append(float(logits.double().log_softmax(-1).gather(1, wanted).sum()))
    return sums


def measure_harness(lm: LanguageModel, pairs: Sequence[Pair], rounds: int) -> dict[str, Any]:
    """Median seconds of both sides, and the largest difference of their log-likelihoods."""
    model, asked, same = harness_side(lm, pairs)
    taken: tuple[list[Seconds], list[Seconds]] = ([], [])
    for _ in range(rounds):
        ours, seconds = timed(lambda: score_ours(lm, pairs))
        taken[0].append(seconds)
        theirs, seconds = timed(lambda: [value for value, _ in model.loglikelihood(asked, disable_tqdm=True)])
        taken[1].append(seconds)
    exact = exact_sums(lm, pairs)
    ours_seconds, theirs_seconds = (statistics.median(one.processor for one in side) for side in taken)
    return {
        "requests": len(pairs),
        "rounds": rounds,
        "same_tokens": same,
        "largest_relative_difference": max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)),
        "largest_difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "our_largest_error": max(abs(a - b) for a, b in zip(ours, exact, strict=True)),
        "harness_largest_error": max(abs(a - b) for a, b in zip(theirs, exact, strict=True)),
        "ours_seconds": ours_seconds,
        "harness_seconds": theirs_seconds,
        "ratio": theirs_seconds / ours_seconds,
    }


def measure(lm: LanguageModel, pairs: Sequence[Pair], rounds: int) -> dict[str, Any]:
    """The median rate, and its share of the limit."""
    joined = [join(lm.tokenizer, *pair) for pair in pairs]
    operations = useful_operations(lm, joined)
    shapes = block_shapes(lm)
    score_ours(lm, pairs[:4])  # warm-up: memory, and the kernels of oneDNN
    limits, taken = [matrix_limit(shapes)], []
    for _ in range(rounds):
        taken.append(timed(lambda: score_ours(lm, pairs))[1])
        limits.append(matrix_limit(shapes))
    rate = operations / statistics.median(one.processor for one in taken) / 1e9
    return {
        "requests": len(pairs),
        "rounds": rounds,
        "tokens": sum(len(one.ids) - 1 for one in joined),
        "scored_tokens": sum(len(one.target_ids) for one in joined),
        "useful_operations": operations,
        "processor_seconds": [one.processor for one in taken],
        "wall_seconds": [one.wall for one in taken],
        "limit": max(limits),
        "rate": rate,
        "share": rate / max(limits),
    }


def main() -> None:
    """Measure, print two lines, and keep the numbers under benchmarks/results."""
    parser = argparse.ArgumentParser(description="Time the scoring of answers beside the machine's matrix limit.")
    parser.add_argument("model", help="a folder of a real model")
    parser.add_argument("--rows", type=Path, required=True, help="GSM8K rows in JSON lines")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--harness", type=int, default=0, metavar="N", help="also send the first N requests to lm-eval")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lm = load_language_model(given.model, device="cpu", dtype="float32")
    pairs = requests(given.rows, given.limit)
    console, name = Console(), Path(given.model).name
    result = {"machine": machine(), "model": name, "ours": measure(lm, pairs, given.rounds)}
    ours = result["ours"]
    console.print(
        f"{ours['requests']} requests, {ours['tokens']} tokens, {ours['scored_tokens']} scored: {ours['rate']:.0f} of "
        f"{ours['limit']:.0f} x 10^9 operations a processor second, a share of {ours['share']:.2f} (bar {BAR:g})"
    )
    if given.harness:
        result["harness"] = beside = measure_harness(lm, pairs[: given.harness], given.rounds)
        console.print(
            f"{beside['requests']} requests beside lm-evaluation-harness: {beside['ratio']:.2f} times as fast, largest "
            f"relative difference {beside['largest_relative_difference']:.1e} (bar {SAME:g}), same tokens: "
            f"{beside['same_tokens']}"
        )
    (RESULTS / f"likelihood-{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
