"""Quantize a pocket model to 8 bits or fewer, ask both models with transformers, and write one table of scores each.

    python examples/quantize.py build/quantized --bits 4
    audit compare build/quantized/base.csv build/quantized/quantized.csv --margin 0.05

The audit loads no model here. It judges the scores of any evaluation, if both models were asked the same items.
"""

import argparse
import csv
import hashlib
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from audit.abilities import load_ability
from audit.abilities.contract import Ability, Item
from audit.abilities.data.sources import items, source_of_data
from audit.pocket import POCKET_WEIGHTS

ABILITIES = ("open_qa", "sentiment", "reasoning")
BATCH = 32


def quantize(model: PreTrainedModel, bits: int) -> None:
    """Round the weights of all linear layers to `bits`, symmetrically, with one scale for each output row."""
    levels = 2 ** (bits - 1) - 1
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings():
            weight = module.weight.data  # (out, in)
            scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / levels  # (out, 1)
            module.weight.data = (weight / scale).round() * scale


def scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ability: Ability, asked: list[Item]
) -> list[float]:
    """The score of the model's greedy answer to every item."""
    assert ability.decoding is not None
    found = []
    for start in range(0, len(asked), BATCH):
        some = asked[start : start + BATCH]
        inputs = tokenizer([ability.prompt(item) for item in some], return_tensors="pt", padding=True)
        written = model.generate(**inputs, max_new_tokens=ability.decoding.max_new_tokens, do_sample=False)
        for item, ids in zip(some, written[:, inputs["input_ids"].shape[1] :], strict=True):
            answer = tokenizer.decode(ids, skip_special_tokens=True)
            for stop in ability.decoding.stop:
                answer = answer.partition(stop)[0]
            found.append(ability.score(item, ability.parse(answer)).value)
    return found


def main() -> None:
    """Ask both models and write base.csv and quantized.csv."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for base.csv and quantized.csv")
    parser.add_argument("--bits", type=int, default=4, help="bits of a weight, 2 to 8 (default: 4)")
    parser.add_argument("--limit", type=int, default=200, help="items of each ability (default: 200)")
    given = parser.parse_args()
    folder = POCKET_WEIGHTS / "pocket-llama"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    given.out.mkdir(parents=True, exist_ok=True)
    source = source_of_data("pocket")
    for name in ("base", "quantized"):
        if name == "quantized":
            quantize(model, given.bits)
        with (given.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["ability", "id", "cluster", "hash", "floor", "score"])
            for ability in map(load_ability, ABILITIES):
                asked = list(items(ability, source, given.limit, seed=0))
                floor = ability.floor(asked)
                for item, score in zip(asked, scores(model, tokenizer, ability, asked), strict=True):
                    content = hashlib.sha256(f"{ability.prompt(item)}\n{item.gold}".encode()).hexdigest()
                    table.writerow([ability.name, item.key, item.cluster, content, floor, score])
        print(f"wrote {given.out}/{name}.csv")


if __name__ == "__main__":
    main()
