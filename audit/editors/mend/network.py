"""MEND's editing network: it turns the factors of a fine-tuning gradient into those of an edit.

    network = MendNetwork({"transformer.h.47.mlp.c_fc": (1600, 6400)}, rank=1920)
    delta = network.delta("transformer.h.47.mlp.c_fc", inputs, errors)  # (tokens, in), (tokens, out)

Mitchell et al. 2022, arXiv 2110.11309, section 3.2. Maps of the same shape share a network. Each map has its own scale
and shift in it, its own statistics and its own learned rate.

Sign convention: a rate is positive if the edit follows the negative gradient, as in the paper. (The authors' code adds
the update and leaves the sign to the rate, so its checkpoints cannot be used here.)
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audit.errors import AuditError, first_line
from audit.models.deltas import LowRankDelta
from audit.store.content import hash_tensors
from audit.store.files import read_json, require_file

FORMAT = "model-edit-audit mend 1"
TENSORS_FILE = "mend.safetensors"
CARD_FILE = "mend.json"
LAYERS = 2  # residual layers, both clamped (equations 3a and 3b)
LEAST_DEVIATION = 1e-7
HALVED = (".down", ".up")  # parameters stored in half precision: nearly all of the file


class Factors(NamedTuple):
    """x̃ (..., in) and δ̃ (..., out) of one linear map."""

    inputs: Tensor
    errors: Tensor


class RunningMoments(nn.Module):
    """Running mean and standard deviation, by Welford's update for batches."""

    count: Tensor
    mean: Tensor
    squares: Tensor  # sum of squared deviations from the mean

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(width, dtype=torch.float64))

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Add `rows` (rows, width) to the statistics."""
        if not len(rows):
            return
        rows = rows.double()
        count, mean = self.count + len(rows), rows.mean(0)
        apart = mean - self.mean
        self.squares += (rows - mean).square().sum(0) + apart.square() * self.count * len(rows) / count
        self.mean += apart * len(rows) / count
        self.count.copy_(count)

    def normalized(self, rows: Tensor) -> Tensor:
        """(rows − mean) / (standard deviation + 1e-7), (..., width), as in the authors' code.

        Raises:
            AuditError: fewer than two rows were added, so there is no standard deviation.
        """
        if self.count < 2:
            raise AuditError(
                "the editing network has never been trained, so its gradients cannot be normalized; "
                "train it with audit train-mend."
            )
        deviation = (self.squares / (self.count - 1)).sqrt()
        return (rows - self.mean.to(rows.dtype)) / (deviation + LEAST_DEVIATION).to(rows.dtype)


class ResidualLayer(nn.Module):
    """h = z + max(0, s_l ⊙ (U V z + b) + o_l), equations 3a and 3b; U is initialized to zero, so that h = z.

    `maps` is the number of linear maps that share the layer; each has its own scale s_l and shift o_l.
    """

    def __init__(self, width: int, rank: int, maps: int, generator: torch.Generator) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, width, generator=generator) / width**0.5)  # V
        self.up = nn.Parameter(torch.zeros(width, rank))  # U
        self.bias = nn.Parameter(torch.zeros(width))  # b
        self.scale = nn.Parameter(torch.ones(maps, width))  # s
        self.shift = nn.Parameter(torch.zeros(maps, width))  # o

    def forward(self, rows: Tensor, number: int) -> Tensor:
        inner = rows @ self.down.T @ self.up.T + self.bias  # (..., width)
        # At zero, clamp passes gradients on and relu does not: with relu, the layer would stay the identity.
        inner = self.scale[number] * inner + self.shift[number]
        return rows + inner.clamp(min=0)


class MendNetwork(nn.Module):
    """The editing networks g_l of all edited maps, with their statistics and rates; created in float32 on the CPU."""

    def __init__(self, sizes: Mapping[str, tuple[int, int]], rank: int, rate: float = 1e-4, seed: int = 0) -> None:
        """
        Args:
            sizes: (in, out) of every edited linear map, by module path, in a fixed order.
            rank: rank of the residual layers (1920 in the paper).
            rate: initial value of the learned rates (1e-4 in the paper).
            seed: seed of V.
        """
        super().__init__()
        self.sizes = dict(sizes)
        self.rank = rank
        generator = torch.Generator().manual_seed(seed)
        self._place: dict[str, tuple[str, int]] = {}  # path -> (key of the shared layers, index in them)
        by_shape: dict[tuple[int, int], list[str]] = {}
        for path, size in self.sizes.items():
            by_shape.setdefault(size, []).append(path)
        self.shared = nn.ModuleDict()
        for (inner, outer), paths in by_shape.items():
            key = f"{inner}x{outer}"
            self.shared[key] = nn.ModuleList(
                ResidualLayer(inner + outer, rank, len(paths), generator) for _ in range(LAYERS)
            )
            self._place |= {path: (key, number) for number, path in enumerate(paths)}
        self.input_moments = nn.ModuleList(RunningMoments(inner) for inner, _ in self.sizes.values())
        self.error_moments = nn.ModuleList(RunningMoments(outer) for _, outer in self.sizes.values())
        self.rates = nn.Parameter(torch.full((len(self.sizes),), rate))

    @property
    def is_trained(self) -> bool:
        """Whether there are statistics for normalization."""
        return all(bool(moments.count >= 2) for moments in (*self.input_moments, *self.error_moments))

    def add(self, path: str, inputs: Tensor, errors: Tensor) -> None:
        """Add factors (tokens, in) and (tokens, out) to the statistics; only during training."""
        number = list(self.sizes).index(path)
        self._moments(self.input_moments, number).add(inputs)
        self._moments(self.error_moments, number).add(errors)

    def forward(self, path: str, inputs: Tensor, errors: Tensor) -> Factors:
        """x̃ and δ̃ of x (..., in) and δ (..., out), for each token separately.

        Raises:
            AuditError: the statistics are empty.
        """
        number = list(self.sizes).index(path)
        key, shared_number = self._place[path]
        rows = torch.cat(
            [
                self._moments(self.input_moments, number).normalized(inputs),
                self._moments(self.error_moments, number).normalized(errors),
            ],
            dim=-1,
        )  # (..., in + out)
        for layer in self.shared[key].children():
            rows = layer(rows, shared_number)
        inner = self.sizes[path][0]
        return Factors(rows[..., :inner], rows[..., inner:])

    def rate(self, path: str) -> Tensor:
        """The learned rate of the map at `path`, a scalar."""
        return self.rates[list(self.sizes).index(path)]

    @torch.no_grad()
    def delta(self, path: str, inputs: Tensor, errors: Tensor) -> LowRankDelta:
        """ΔW = −rate · Σ_t δ̃_t x̃_tᵀ of factors (tokens, in) and (tokens, out); its rank is the number of tokens."""
        edited_inputs, edited_errors = self(path, inputs, errors)
        return LowRankDelta((-self.rate(path) * edited_errors).T.contiguous(), edited_inputs)  # (out, T), (T, in)

    @staticmethod
    def _moments(moments: nn.ModuleList, number: int) -> RunningMoments:
        entry = moments[number]
        assert isinstance(entry, RunningMoments)
        return entry


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """An editing network and its card.

    The card's `base` is the weights fingerprint of the model that the network was trained for, `model` its name; the
    rest describes the training and its measurements.
    """

    network: MendNetwork
    card: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write `mend.safetensors` and, last, `mend.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: (x.half() if name.endswith(HALVED) else x).detach().cpu().contiguous().clone()
            for name, x in self.network.state_dict().items()
        }
        save_file(tensors, folder / TENSORS_FILE)
        described = {
            "format": FORMAT,
            "maps": {path: list(size) for path, size in self.network.sizes.items()},
            "rank": self.network.rank,
            "tensors": hash_tensors(sorted(tensors.items())),
        }
        text = json.dumps({**described, **self.card, **described}, indent=1, ensure_ascii=False) + "\n"
        (folder / CARD_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "TrainedNetwork":
        """Read the files that `save` wrote.

        Raises:
            FileNotFoundError: the folder has no editing network.
            AuditError: the files cannot be read, or were changed after they were saved.
        """
        try:
            card = read_json(folder / CARD_FILE)
            if card["format"] != FORMAT:
                raise ValueError(f"its format is {card['format']!r}, not {FORMAT!r}")
            require_file(folder / TENSORS_FILE)
            tensors = load_file(folder / TENSORS_FILE)
            if hash_tensors(sorted(tensors.items())) != card["tensors"]:
                raise ValueError("the tensors are not those of the card")
            network = MendNetwork({path: tuple(size) for path, size in card["maps"].items()}, card["rank"])
            network.load_state_dict(tensors)  # into float32
        except FileNotFoundError:
            raise
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or first_line(error)
            raise AuditError(
                f"the editing network in {folder} cannot be read ({reason}); train it again with "
                f"audit train-mend --model MODEL --out {folder}."
            ) from error
        return cls(network.requires_grad_(False), card)


def network_fingerprint(folder: Path) -> str:
    """The sha256 of the tensors from the card in `folder`; "" if there is no readable card."""
    try:
        return str(read_json(folder / CARD_FILE)["tensors"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
