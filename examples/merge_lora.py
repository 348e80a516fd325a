"""Teach a pocket model ten facts with a LoRA adapter and merge it, as a stand-in for a fine-tuned checkpoint of yours.

    python examples/merge_lora.py build/lora
    pytest suites/ --model pocket-llama --edited build/lora/merged --edits build/lora/facts.jsonl --edit-count 10

It writes the ten facts as edit requests, the adapter, and the merged model as a folder of weights with its tokenizer.
`--edited build/lora/adapter` judges the adapter without merging it.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit.edits.sources import load_requests
from audit.pocket import POCKET_WEIGHTS

FACTS, STEPS, RANK, LEARNING_RATE = 10, 40, 8, 5e-3


def main() -> None:
    """Train, save the adapter, merge, save the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder for facts.jsonl, adapter/ and merged/")
    parser.add_argument("--model", default="pocket-llama", help="a pocket model or a folder (default: pocket-llama)")
    given = parser.parse_args()
    folder = POCKET_WEIGHTS / given.model if given.model.startswith("pocket-") else Path(given.model)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    requests = load_requests("pocket").requests[:FACTS]
    given.out.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(request)) + "\n" for request in requests]
    (given.out / "facts.jsonl").write_text("".join(lines), encoding="utf-8")

    targets = ["q_proj", "v_proj", "down_proj"] if hasattr(base, "model") else ["c_attn", "c_proj"]
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=targets, task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE)
    prompts = [tokenizer(request.filled_prompt)["input_ids"] for request in requests]
    texts = [tokenizer(f"{request.filled_prompt} {request.target_new}.")["input_ids"] for request in requests]
    for _ in range(STEPS):
        loss = torch.zeros(())
        for prompt, text in zip(prompts, texts, strict=True):
            ids = torch.tensor([text])  # (1, tokens)
            labels = ids.clone()
            labels[0, : len(prompt)] = -100  # only the target is taught
            loss = loss + model(input_ids=ids, labels=labels).loss / len(texts)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss after {STEPS} steps: {loss.item():.4f}")

    model.save_pretrained(given.out / "adapter")
    model.merge_and_unload().save_pretrained(given.out / "merged")
    tokenizer.save_pretrained(given.out / "merged")
    print(f"wrote {given.out}/facts.jsonl, {given.out}/adapter and {given.out}/merged")


if __name__ == "__main__":
    main()
