"""Train a pocket model from scratch.

    python -m audit.pocket.training.train pocket-llama --tokens 20e6 --minutes 90

Training is seeded and resumable: every few minutes, weights, optimizer moments and counters are saved, and the same
command continues from them. The learning rate depends on steps and tokens only (warm-up, plateau, linear decay over the
last half), so the result depends on the budget in tokens, not on the budget in minutes.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from audit.pocket import POCKET_WEIGHTS
from audit.pocket.training.card import write_card
from audit.pocket.training.corpus import Lesson, lessons
from audit.pocket.training.tokenizer import END, train_tokenizer
from audit.pocket.world import GIVEN, WORLD_SEED

SEED = 1
WIDTH, LAYERS, HEADS, CONTEXT = 192, 6, 6, 512
LEARNING_RATE, WARM_UP_STEPS, DECAY_SHARE, WEIGHT_DECAY = 2e-3, 200, 0.5, 0.05
BATCH_TOKENS = 2048
CHUNK = 4096  # lessons that are sorted by length and batched together
PROMPT_WEIGHT = 0.1
SAVE_SECONDS = 180.0
TOKENIZER_LESSONS = 20_000


def pocket_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of both models, learned from the first lessons."""
    stream = lessons(SEED, first_shares=True)
    return train_tokenizer(lesson.text.replace(END, "") for lesson in islice(stream, TOKENIZER_LESSONS))


def new_model(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained model with a tied head: GPT-2 (Conv1D, learned positions) or Llama (gated MLP, RMSNorm, RoPE)."""
    torch.manual_seed(SEED)
    ids: dict[str, Any] = {
        "vocab_size": -(-len(tokenizer) // 64) * 64,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        # Rows are short: on a CPU the backward pass of plain attention is twice as fast as that of the fused kernel.
        "attn_implementation": "eager",
    }
    if name == "pocket-gpt2":
        shape: dict[str, Any] = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT}
        return GPT2LMHeadModel(GPT2Config(**ids, **shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
    return LlamaForCausalLM(
        LlamaConfig(
            **ids,
            hidden_size=WIDTH,
            intermediate_size=3 * WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS // 2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
        )
    )


@dataclass(frozen=True)
class Batch:
    """Token ids, loss weights and positions, each (rows, time).

    `mask` (rows, 1, time, time) is added to the attention scores; None means plain causal attention.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class _Row:
    """One encoded lesson; `decoy` is the index of the decoy token, right after the first name (0: none)."""

    ids: list[int]
    weights: list[float]
    positions: list[int]
    decoy: int = 0
    subject_last: int = 0


def encode_lesson(tokenizer: PreTrainedTokenizerFast, lesson: Lesson, rng: Random) -> _Row:
    """Tokens, loss weights and positions of a lesson; a blindfolded lesson gets a decoy, a random first name.

    The decoy has the same position as the first name. Tokens after the subject attend to the decoy instead of the name,
    and the subject's last token attends to the name. So only that token identifies the person, and the model learns to
    rely on it.
    """
    encoded = tokenizer(lesson.text, return_offsets_mapping=True)
    ids, spans = list(encoded["input_ids"]), encoded["offset_mapping"]
    weights = [
        0.0 if stop == start else 1.0 if any(a <= start and stop <= b for a, b in lesson.taught) else PROMPT_WEIGHT
        for start, stop in spans
    ]
    positions = list(range(len(ids)))
    if lesson.subject is None:
        return _Row(ids, weights, positions)
    first, last = lesson.subject
    inside = [place for place, (start, stop) in enumerate(spans) if start < last and stop > first]
    if len(inside) != 2:  # a city or a company of one token has no first name
        return _Row(ids, weights, positions)
    given, family = inside
    space = " " if lesson.text[spans[given][0]] == " " else ""
    decoy = tokenizer(space + rng.choice(GIVEN))["input_ids"]
    if len(decoy) != 2:  # BOS and one token
        return _Row(ids, weights, positions)
    weights[family] = 0.0  # it would be predicted from the decoy
    return _Row(
        [*ids[:family], decoy[1], *ids[family:]],
        [*weights[:family], 0.0, *weights[family:]],
        [*positions[:family], given, *positions[family:]],
        decoy=family,
        subject_last=family + 1,
    )


def collate(tokenizer: PreTrainedTokenizerFast, lessons_: list[Lesson], rng: Random) -> Batch:
    """Pad lessons on the right into a batch. No real token attends to padding, because attention is causal."""
    rows = [encode_lesson(tokenizer, lesson, rng) for lesson in lessons_]
    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    weights = torch.zeros(len(rows), longest)
    positions = torch.zeros(len(rows), longest, dtype=torch.long)
    visible = None
    if any(row.decoy for row in rows):
        visible = torch.ones(longest, longest, dtype=torch.bool).tril().repeat(len(rows), 1, 1, 1)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        weights[number, : len(row.ids)] = torch.tensor(row.weights)
        positions[number, : len(row.ids)] = torch.tensor(row.positions)
        if row.decoy and visible is not None:
            visible[number, 0, row.decoy, row.decoy - 1] = False  # the decoy does not attend to the name
            visible[number, 0, row.subject_last, row.decoy] = False  # the last name attends to the first name
            visible[number, 0, row.subject_last + 1 :, row.decoy - 1] = False  # later tokens attend to the decoy
    mask = None if visible is None else torch.zeros(visible.shape).masked_fill(~visible, -1e9)
    return Batch(ids, weights, positions, mask)


def batches(tokenizer: PreTrainedTokenizerFast, chunk: int, progress: float) -> Iterator[Batch]:
    """The batches of one chunk of the stream in random order; the rows of a batch have similar lengths."""
    rows = list(islice(lessons(SEED + 1000 + chunk, progress), CHUNK))
    cut: list[list[Lesson]] = []
    for masked in (False, True):
        part = sorted((row for row in rows if (row.subject is not None) is masked), key=lambda row: len(row.text))
        while part:
            # About 4 characters for each token in this world, which is precise enough to size a batch.
            size = max(1, BATCH_TOKENS * 4 // len(part[min(len(part) - 1, 64)].text))
            cut.append(part[:size])
            part = part[size:]
    rng = Random(chunk)
    rng.shuffle(cut)
    for group in cut:
        yield collate(tokenizer, group, rng)


def weighted_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """The mean cross entropy of the next token, weighted by the loss weights; matrix products are in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        ).logits
    flat = cross_entropy(logits[:, :-1].float().flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    weights = batch.weights[:, 1:].flatten()
    return (flat * weights).sum() / weights.sum()


def learning_rate(step: int, share: float) -> float:
    """The learning rate at `step` and `share` of the tokens: warm-up over steps, plateau, linear decay to zero."""
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS, max(0.0, (1 - share) / DECAY_SHARE))


@dataclass
class Pupil:
    """A model in training, with everything that a checkpoint saves."""

    model: PreTrainedModel
    optimizer: torch.optim.AdamW
    step: int = 0
    chunk: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0  # running mean

    def save(self, folder: Path) -> None:
        """Save weights, moments and counters; the counters last, so that an incomplete checkpoint is never read."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"weight.{name}": p.detach() for name, p in self.model.named_parameters()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}.{name}"] = value
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / f"step-{self.step}.safetensors")
        counters = {
            "step": self.step,
            "chunk": self.chunk,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "loss": self.loss,
        }
        (folder / "counters.tmp").write_text(json.dumps(counters))
        (folder / "counters.tmp").replace(folder / "counters.json")
        for old in folder.glob("step-*.safetensors"):
            if old.name != f"step-{self.step}.safetensors":
                old.unlink()

    def load(self, folder: Path) -> None:
        """Restore a checkpoint written by `save`."""
        counters = json.loads((folder / "counters.json").read_text())
        self.step, self.chunk = counters["step"], counters["chunk"]
        self.tokens, self.seconds = counters["tokens"], counters["seconds"]
        self.loss = counters.get("loss", 0.0)
        tensors = load_file(folder / f"step-{self.step}.safetensors")
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(tensors[f"weight.{name}"])
            self.optimizer.state[parameter] = {
                key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in tensors
            }


def new_pupil(name: str, tokenizer: PreTrainedTokenizerFast) -> Pupil:
    """An untrained model with its optimizer; norms, biases and embeddings have no weight decay."""
    model = new_model(name, tokenizer)
    tables = ("wte", "wpe", "embed_tokens")
    decayed = [p for n, p in model.named_parameters() if p.ndim == 2 and not any(t in n for t in tables)]
    kept = {id(p) for p in decayed}
    others = [p for p in model.parameters() if id(p) not in kept]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return Pupil(model, torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95), fused=True))


def train(name: str, folder: Path, budget_tokens: int, budget_minutes: float, console: Console) -> Pupil:
    """Train until one budget is spent; save a checkpoint in `folder` about every `SAVE_SECONDS` and at the end."""
    resuming = (folder / "counters.json").exists()
    # The embeddings belong to the tokenizer that they were trained with, even if the lessons have changed.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder) if resuming else pocket_tokenizer()
    pupil = new_pupil(name, tokenizer)
    if resuming:
        pupil.load(folder)
        console.log(f"{name}: resuming from {pupil.tokens:,} tokens")
    tokenizer.save_pretrained(folder)
    pupil.model.config.save_pretrained(folder)
    started = saved = time.monotonic()
    before = pupil.seconds
    while pupil.tokens < budget_tokens and time.monotonic() - started < budget_minutes * 60:
        for batch in batches(tokenizer, pupil.chunk, pupil.tokens / budget_tokens):
            rate = learning_rate(pupil.step, pupil.tokens / budget_tokens)
            for group in pupil.optimizer.param_groups:
                group["lr"] = rate
            loss = weighted_loss(pupil.model, batch)
            pupil.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(pupil.model.parameters(), 1.0)
            pupil.optimizer.step()
            pupil.step += 1
            pupil.tokens += int((batch.weights > 0).sum())
            pupil.loss = loss.item() if not pupil.loss else 0.98 * pupil.loss + 0.02 * loss.item()
            if pupil.step % 100 == 0:
                speed = (pupil.tokens) / max(1e-9, before + time.monotonic() - started)
                console.log(
                    f"{name} step {pupil.step} tokens {pupil.tokens:,} of {budget_tokens:,} "
                    f"loss {pupil.loss:.4f} rate {rate:.1e} {speed:,.0f} tokens/s"
                )
        pupil.chunk += 1
        pupil.seconds = before + time.monotonic() - started
        if time.monotonic() - saved > SAVE_SECONDS:
            pupil.save(folder)
            saved = time.monotonic()
    pupil.save(folder)
    return pupil


def ship(name: str, pupil: Pupil, tokenizer: PreTrainedTokenizerFast, budget_tokens: int) -> None:
    """Install the trained model in the package in half precision, with its tokenizer and its training card."""
    folder = POCKET_WEIGHTS / name
    model = new_model(name, tokenizer)
    model.load_state_dict(pupil.model.state_dict())
    model.to(dtype=torch.float16).save_pretrained(folder)  # type: ignore[call-arg]
    tokenizer.save_pretrained(folder)
    training = {
        "script": "audit/pocket/training/train.py",
        "seed": SEED,
        "world_seed": WORLD_SEED,
        "tokens": pupil.tokens,
        "tokens_planned": budget_tokens,
        "steps": pupil.step,
        "loss": round(pupil.loss, 4),
        "minutes": round(pupil.seconds / 60, 1),
    }
    write_card(name, training)


def main() -> None:
    """Entry point of `python -m audit.pocket.training.train`."""
    parser = argparse.ArgumentParser(description="Train a pocket model (resumable).")
    parser.add_argument("name", choices=("pocket-gpt2", "pocket-llama"))
    parser.add_argument("--tokens", type=float, default=20e6, help="training budget in tokens (default 20e6)")
    parser.add_argument("--minutes", type=float, default=90.0, help="pause after this many minutes (default 90)")
    parser.add_argument("--checkpoint", type=Path, default=None, help="folder of the checkpoint (default build/NAME)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--ship", action="store_true", help="install the model before its token budget is spent")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    folder = given.checkpoint or Path("build") / given.name
    pupil = train(given.name, folder, int(given.tokens), given.minutes, Console(width=140))
    if given.ship or pupil.tokens >= given.tokens:
        ship(given.name, pupil, PreTrainedTokenizerFast.from_pretrained(folder), int(given.tokens))


if __name__ == "__main__":
    main()
