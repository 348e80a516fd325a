"""Estimates of the time that answers take: their tokens, and the speed of this machine for a model of this size.

    work = work_of(ability, items, tokens_of)
    machine = machine_speed(ModelFiles.of("pocket-llama"), "auto", "auto")
    machine.seconds(work)

No weights are read; the headers of the files give the size of the model.
"""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audit.abilities.contract import Ability, Item
from audit.errors import AuditError, first_line
from audit.pocket import POCKET_WEIGHTS
from audit.settings.options import DTYPES
from audit.store.files import read_json

SAMPLED = 100  # items whose lengths represent all
LETTERS_A_TOKEN = 4.0  # of English text, for models without a fast tokenizer
# The cost of a written token in read ones, measured on the pocket models with one core: 0.14 ms against 0.06 ms.
WRITTEN_AS_READ = 2.3
READ, WRITTEN = 1024, 64  # tokens read at once, and answers written at once, in the measurement
READ_LENGTH = 64  # of one text among them
# Share of the speed of bare matrix products that asking reaches: 0.4 on pocket-llama, 0.63 on GPT-2 small.
REACHED = 0.5
AT_ONCE = 1e10  # multiplications in one timed call on a CPU, which limits the time for large models
MEASURED_FOR = 0.1  # seconds, for each of three shapes
ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class Work:
    """The tokens that one model reads and writes for all items of an ability.

    `written` assumes answers as long as the right ones, `at_most` that each runs to its token limit.
    """

    items: int
    read: float
    written: float
    at_most: float

    @property
    def units(self) -> float:
        """The work in tokens read, for comparing abilities."""
        return self.read + WRITTEN_AS_READ * self.written


def work_of(ability: Ability, items: Sequence[Item], tokens_of: Callable[[str], float]) -> Work:
    """The work of asking `items`; the shared beginning of all prompts, and of an item's choices, is read once."""
    sample = items[:: max(1, len(items) // SAMPLED)]
    prompts = [ability.prompt(item) for item in sample]
    shared = commonprefix(prompts) if len(prompts) > 1 else ""  # noqa: RUF071 - of letters, not of paths
    times = len(items) / len(sample)
    read = times * sum(tokens_of(prompt[len(shared) :]) for prompt in prompts) + tokens_of(shared)
    if ability.scorer is not None:
        pairs = [ability.scorer.continuations(item, prompt) for item, prompt in zip(sample, prompts, strict=True)]
        beside = [{one for one, _ in some} - {prompt} for some, prompt in zip(pairs, prompts, strict=True)]
        others = sum(tokens_of(one) for some in beside for one in some)
        scored = sum(tokens_of(continuation) for some in pairs for _, continuation in some)
        return Work(len(items), read + times * (others + scored), 0.0, 0.0)
    if ability.decoding is None:
        choices = times * sum(tokens_of(choice) for item in sample for choice in item.choices)
        return Work(len(items), read + choices, 0.0, 0.0)
    limit = ability.decoding.max_new_tokens
    with_end = [tokens_of(ability.gold_answer(item)) + 1 for item in sample]
    written = times * sum(min(limit, tokens) for tokens in with_end)
    return Work(len(items), read, written, float(len(items) * limit))


@dataclass(frozen=True)
class Machine:
    """Seconds per token read and per token written, measured on `device` in `dtype`."""

    read: float
    written: float
    device: str
    dtype: str

    def seconds(self, work: Work) -> float:
        return self.read * work.read + self.written * work.written

    def seconds_at_most(self, work: Work) -> float:
        return self.read * work.read + self.written * work.at_most


@dataclass(frozen=True)
class ModelFiles:
    """The folder of a model: its configuration, its tokenizer, and the sizes of its matrices."""

    folder: Path
    pocket: bool = False

    @classmethod
    def of(cls, name: str, revision: str | None = None) -> "ModelFiles | None":
        """The files of a pocket model, a local folder or a Hub model in the cache; None if there are none."""
        pocket = POCKET_WEIGHTS / name
        if (pocket / "config.json").is_file():
            return cls(pocket, pocket=True)
        folder = Path(name).expanduser()
        if (folder / "config.json").is_file():
            return cls(folder)
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            config = try_to_load_from_cache(name, "config.json", revision=revision)
        except HFValidationError:
            return None
        return cls(Path(config).parent) if isinstance(config, str) else None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration of the text part. Raises `AuditError` where it cannot be read."""
        try:
            config: dict[str, Any] = read_json(self.folder / "config.json")
            return {**config, **config.get("text_config", {})}
        except (OSError, ValueError, TypeError) as error:
            raise AuditError(f"{self.folder / 'config.json'} cannot be read ({error}); copy the model again.") from None

    def number(self, *names: str) -> int:
        """A size in the configuration under the first of these names that it has; 0 if it has none."""
        return next((int(self.config[name]) for name in names if isinstance(self.config.get(name), int)), 0)

    @property
    def context(self) -> int:
        """The number of tokens in the context; 0 if the configuration or the tokenizer file does not exist."""
        names = ("max_position_embeddings", "n_positions", "max_seq_len")
        return self.number(*names) if (self.folder / "tokenizer.json").is_file() else 0

    @cached_property
    def tokens_of(self) -> Callable[[str], float]:
        """The number of tokens of a text; estimated from its letters if the model has no fast tokenizer."""
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            return guessed_tokens
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(file))
        return lambda text: float(len(tokenizer.encode(text, add_special_tokens=False).ids))

    @cached_property
    def matrices(self) -> tuple[int, int]:
        """The number of entries in the matrices of all blocks, and in one matrix of the vocabulary.

        Raises:
            AuditError: there are no safetensors files, or they cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        vocabulary, blocks, words = self.number("vocab_size"), 0, 0
        for file in sorted(self.folder.glob("model*.safetensors")):
            try:
                with safe_open(file, framework="np") as content:
                    shapes = [content.get_slice(key).get_shape() for key in content.keys()]  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise AuditError(f"{file} cannot be read as safetensors ({error}); copy it again.") from None
            for shape in shapes:
                if len(shape) < 2:
                    continue
                size = math.prod(shape)
                if vocabulary in shape:
                    words = max(words, size)
                else:
                    blocks += size
        if not blocks:
            raise AuditError(f"{self.folder} has no safetensors weights, so the size of the model is unknown.")
        return blocks, words


def guessed_tokens(text: str) -> float:
    """An estimate of the number of tokens of a text from its letters."""
    return len(text) / LETTERS_A_TOKEN


def machine_speed(files: ModelFiles, device: str, dtype: str) -> Machine:
    """The speed of this machine with a model of this size, from timing one block with made-up weights.

    A CPU in float32 is timed with numpy, since importing torch would take longer than the measurement.

    Raises:
        AuditError: the files do not give the size of the model, or the device cannot be used.
    """
    blocks, words = files.matrices
    depth = files.number("num_hidden_layers", "n_layer", "num_layers")
    width = files.number("hidden_size", "n_embd", "d_model")
    heads = files.number("num_attention_heads", "n_head", "num_heads")
    if not (depth and width and heads) or width % heads:
        raise AuditError(f"{files.folder / 'config.json'} does not give the depth, width and heads of the model.")
    if dtype == "auto":
        stored = files.config.get("dtype") or files.config.get("torch_dtype")
        dtype = str(stored) if stored in DTYPES and not files.pocket else "float32"
    # A block has four matrices of width x width for attention, and two of width x wide for the MLP.
    sizes = (width, max(1, round((blocks / depth - 4 * width * width) / (2 * width))), max(1, words // width))
    by_numpy = dtype == "float32" and (device == "cpu" or (device in ("auto", "map") and not _has_accelerator()))
    try:
        parts = _in_numpy(*sizes) if by_numpy else _in_torch(*sizes, heads, device, dtype)
        read = depth * _seconds(parts.read, parts.wait) / parts.tokens
        written = (depth * _seconds(parts.write, parts.wait) + _seconds(parts.choose, parts.wait)) / WRITTEN
        if by_numpy:
            read, written = read / REACHED, written / REACHED
    except (RuntimeError, AssertionError, NotImplementedError, MemoryError) as error:
        raise AuditError(f"the speed of the device {device!r} cannot be measured ({first_line(error)}).") from None
    return Machine(read, written, parts.device, dtype)


class _Parts(NamedTuple):
    """The timed calls: a block that reads `tokens`, one that writes a token per answer, and the output layer."""

    device: str
    tokens: int
    read: Callable[[], object]
    write: Callable[[], object]
    choose: Callable[[], object]
    wait: Callable[[], object]


def _in_numpy(width: int, wide: int, words: int) -> _Parts:
    """The matrix products of a block."""
    inner, widen, narrow, vocabulary = (
        np.full(shape, 0.01, dtype=np.float32)
        for shape in ((width, width), (width, wide), (wide, width), (width, words))
    )
    tokens = _affordable(width, wide)
    read, written = (np.ones((rows, width), dtype=np.float32) for rows in (tokens, WRITTEN))

    def block(states: Any) -> None:
        for _ in range(4):
            states @ inner
        states @ widen @ narrow

    return _Parts(
        "cpu", tokens, lambda: block(read), lambda: block(written), lambda: written @ vocabulary, lambda: None
    )


def _in_torch(width: int, wide: int, words: int, heads: int, device: str, dtype: str) -> _Parts:
    """A block on a device; "auto" and "map" mean a GPU if there is one."""
    import torch

    if device in ("auto", "map"):
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision, tokens = getattr(torch, dtype), _affordable(width, wide) if device == "cpu" else READ
    with torch.inference_mode(), torch.device("meta"):
        block: Any = torch.nn.TransformerEncoderLayer(
            width, heads, wide, dropout=0.0, activation=torch.nn.functional.silu, batch_first=True
        )
        head: Any = torch.nn.Linear(width, words, bias=False)
    with torch.inference_mode():
        block, head = (part.to_empty(device=device).to(precision).eval() for part in (block, head))
        for parameter in (*block.parameters(), *head.parameters()):
            parameter.fill_(0.01)
        read = torch.ones(tokens // READ_LENGTH, READ_LENGTH, width, device=device, dtype=precision)
        written = torch.ones(WRITTEN, 1, width, device=device, dtype=precision)
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(read.device.type, lambda: None)
    run = torch.inference_mode()
    return _Parts(
        device, tokens, run(lambda: block(read)), run(lambda: block(written)), run(lambda: head(written)), wait
    )


def _affordable(width: int, wide: int) -> int:
    """The number of tokens that a CPU reads in one timed call: whole texts, fewer for a large block."""
    fits = int(AT_ONCE / (4 * width * width + 2 * width * wide))
    return max(1, min(READ, fits) // READ_LENGTH) * READ_LENGTH


def _has_accelerator() -> bool:
    """Whether the machine seems to have an accelerator that torch would choose."""
    return shutil.which("nvidia-smi") is not None or any(Path(node).exists() for node in ACCELERATORS)


def _seconds(run: Callable[[], object], wait: Callable[[], object]) -> float:
    """Mean wall seconds of one call, which include the load that others put on the machine."""
    run()
    wait()
    calls, begun = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < MEASURED_FOR:
        run()
        wait()
        calls += 1
    return elapsed / max(1, calls)
