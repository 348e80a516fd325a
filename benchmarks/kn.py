"""Time one KN edit beside a plain implementation.

    python -m benchmarks.kn [--repeat 3] [--mode toolkit]

The plain implementation runs the whole model forward and backward for every block, every step of the integral and every
token of the answer: once step by step, and once with all steps of a block in one batch (as the toolkit does where
memory allows). All editors share settings, tokens and everything but the attribution, run in turn in one process on one
thread, and must select the same neurons. The figures are medians over `--repeat` rounds, in processor seconds of a
whole edit.
"""

import argparse
import statistics
import time
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from audit.editors.methods.kn import KnowledgeNeurons, KnowledgeNeuronSettings
from audit.editors.stages.attribution import AnsweredPrompt, both_ends, midpoints
from audit.edits.requests import EditRequest
from audit.edits.sources import load_requests
from audit.models.anatomy import find_anatomy
from audit.models.language_model import LanguageModel
from audit.models.loading import load_language_model
from tests.editors.plain_attribution import attribute_plainly


class PlainKnowledgeNeurons(KnowledgeNeurons):
    """The same editor on plain attribution, with `steps_together` steps of the integral in one batch."""

    def __init__(self, mode: str, steps_together: int) -> None:
        super().__init__({"mode": mode})
        self._steps_together = steps_together

    def _attributed(
        self, lm: LanguageModel, steps: Sequence[AnsweredPrompt], settings: KnowledgeNeuronSettings
    ) -> Tensor:
        toolkit = settings.mode == "toolkit"
        alphas = both_ends(settings.steps) if toolkit else midpoints(settings.steps)
        place = "key" if toolkit else "value"
        return torch.stack([attribute_plainly(lm, step, place, alphas, self._steps_together) for step in steps])


def gpt2_small() -> LanguageModel:
    """GPT-2's smallest shape with random weights: timings do not depend on what a model knows."""
    tokenizer = load_language_model("pocket-gpt2", device="cpu").tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(GPT2Config())
    model.train(False).requires_grad_(False)
    return LanguageModel("gpt2-small shape", None, model, tokenizer, find_anatomy(model))


def timed(
    lm: LanguageModel, request: EditRequest, editors: Sequence[KnowledgeNeurons], repeat: int
) -> tuple[list[float], set[str]]:
    """Median seconds of an edit by each editor, and the sets of neurons that they selected."""
    seconds: list[list[float]] = [[] for _ in editors]
    chosen: set[str] = set()
    for _ in range(repeat):
        for editor, taken in zip(editors, seconds, strict=True):
            started = time.process_time()
            patch = editor.edit(lm, [request])
            taken.append(time.process_time() - started)
            chosen.add(patch.meta["neurons"])
    return [statistics.median(taken) for taken in seconds], chosen


def main() -> None:
    """Print a table of medians, ratios and whether the neurons agree."""
    parser = argparse.ArgumentParser(description="Time one KN edit.")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--mode", choices=("toolkit", "paper"), default="toolkit")
    given = parser.parse_args()
    torch.set_num_threads(1)
    (request,) = load_requests("pocket").draw(1, 0).requests
    table = Table(title=f"one KN edit, mode {given.mode}, median of {given.repeat}, processor seconds on one thread")
    for column in ("model", "plain", "steps batched", "ours", "ratio", "ratio to batched", "neurons", "the same"):
        table.add_column(column)
    for lm in (load_language_model("pocket-gpt2", device="cpu"), gpt2_small()):
        ours = KnowledgeNeurons({"mode": given.mode})
        editors = (PlainKnowledgeNeurons(given.mode, 1), PlainKnowledgeNeurons(given.mode, 10**6), ours)
        (plain, batched, own), chosen = timed(lm, request, editors, given.repeat)
        row = (f"{plain:.2f}", f"{batched:.2f}", f"{own:.3f}", f"{plain / own:.1f}", f"{batched / own:.1f}")
        table.add_row(lm.name, *row, str(len(max(chosen).split())), "yes" if len(chosen) == 1 else "NO")
    Console().print(table)


if __name__ == "__main__":
    main()
