"""The editing network: initial identity, independent tokens, one-pass statistics, and files."""

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from audit.editors.mend.network import CARD_FILE, TENSORS_FILE, MendNetwork, RunningMoments, TrainedNetwork
from audit.errors import AuditError
from audit.pocket import POCKET_WEIGHTS

SIZES = {"a": (6, 4), "b": (6, 4), "c": (4, 6)}


def factors(tokens: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tokens, 6, generator=generator) * 3 + 1, torch.randn(tokens, 4, generator=generator) * 0.1


def seen_network(rank: int = 3) -> MendNetwork:
    network = MendNetwork(SIZES, rank, rate=0.5)
    for path, (inner, outer) in SIZES.items():
        generator = torch.Generator().manual_seed(inner)
        network.add(path, torch.randn(40, inner, generator=generator), torch.randn(40, outer, generator=generator))
    return network


def shaken(network: MendNetwork) -> MendNetwork:
    """Off the identity, as training would leave it."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 99))
def test_moments_do_not_depend_on_the_batches(parts: list[int], seed: int) -> None:
    rows = torch.randn(sum(parts) + 1, 3, generator=torch.Generator().manual_seed(seed)) * 5 + 100
    moments = RunningMoments(3)
    for part in rows.split([*parts, 1]):
        moments.add(part)
    expected = (rows - rows.mean(0)) / rows.std(0)
    torch.testing.assert_close(moments.normalized(rows), expected, atol=1e-3, rtol=1e-3)


def test_an_entry_that_never_varies_stays_zero() -> None:
    moments = RunningMoments(2)
    moments.add(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert moments.normalized(torch.tensor([[1.0, 3.0]])).tolist() == [[0.0, 0.0]]


def test_an_untrained_network_raises_instead_of_returning_nan() -> None:
    network = MendNetwork(SIZES, 3)
    assert not network.is_trained
    with pytest.raises(AuditError, match=r"never been trained.*audit train-mend"):
        network("a", *factors(5))


def test_it_starts_as_the_identity_so_an_edit_is_a_normalized_gradient_step() -> None:
    network, (x, error) = seen_network(), factors(5)
    normalized = [
        network._moments(moments, 0).normalized(rows)
        for moments, rows in ((network.input_moments, x), (network.error_moments, error))
    ]
    edited = network("a", x, error)
    assert torch.equal(edited[0], normalized[0]) and torch.equal(edited[1], normalized[1])
    delta = network.delta("a", x, error)
    expected = -0.5 * sum(torch.outer(d, k) for k, d in zip(*normalized, strict=True))
    torch.testing.assert_close(delta.left @ delta.right, expected)


def test_gradients_exist_at_the_identity() -> None:
    """relu has no gradient at zero, so it could not leave the identity."""
    network = seen_network()
    sum(part.square().sum() for part in network("a", *factors(5))).backward()
    for layer in network.shared["6x4"].children():
        gradient = dict(layer.named_parameters())["up"].grad
        assert gradient is not None and float(gradient.norm()) > 0


@pytest.mark.parametrize("name", ["pocket-gpt2", "pocket-llama"])
def test_the_shipped_networks_compute_the_equations_of_the_paper(name: str) -> None:
    """Equations 3a and 3b, written out in float64 with the normalization of the authors' code."""
    network = TrainedNetwork.load(POCKET_WEIGHTS / name).network
    state = {key: value.double() for key, value in network.state_dict().items()}
    path, (inner, outer) = next(iter(network.sizes.items()))
    generator = torch.Generator().manual_seed(3)
    mean, spread = (
        state["input_moments.0.mean"],
        (state["input_moments.0.squares"] / state["input_moments.0.count"]).sqrt(),
    )
    x = (mean + spread * torch.randn(7, inner, generator=generator, dtype=torch.float64)).float()
    spread = (state["error_moments.0.squares"] / state["error_moments.0.count"]).sqrt()
    error = (
        state["error_moments.0.mean"] + spread * torch.randn(7, outer, generator=generator, dtype=torch.float64)
    ).float()

    def normalized(rows: torch.Tensor, kind: str) -> torch.Tensor:
        deviation = (state[f"{kind}.0.squares"] / (state[f"{kind}.0.count"] - 1)).sqrt()
        return (rows.double() - state[f"{kind}.0.mean"]) / (deviation + 1e-7)

    z = torch.cat([normalized(x, "input_moments"), normalized(error, "error_moments")], dim=1)
    for layer in (0, 1):
        part = {key: state[f"shared.{inner}x{outer}.{layer}.{key}"] for key in ("down", "up", "bias", "scale", "shift")}
        low = torch.einsum("ri,ti->tr", part["down"], z)  # V z
        hidden = torch.einsum("or,tr->to", part["up"], low) + part["bias"]  # U V z + b
        z = z + torch.relu(part["scale"][0] * hidden + part["shift"][0])
    expected = torch.einsum("to,ti->oi", z[:, inner:], z[:, :inner])  # the sum over tokens of the outer products
    found = network(path, x, error)
    update = found.errors.double().T @ found.inputs.double()
    assert float((update - expected).norm() / expected.norm()) < 1e-4


def test_tokens_are_independent_and_updates_add_up() -> None:
    network, (x, error) = shaken(seen_network()), factors(7)
    whole = network.delta("a", x, error)
    parts = [network.delta("a", x[rows], error[rows]) for rows in (slice(0, 3), slice(3, 7))]
    torch.testing.assert_close(whole.left @ whole.right, sum(part.left @ part.right for part in parts))


def test_maps_of_one_shape_share_a_network_but_not_scale_shift_and_rate() -> None:
    network = seen_network()
    assert sorted(network.shared) == ["4x6", "6x4"]
    assert network.rates.shape == (3,)
    network.input_moments[1].load_state_dict(network.input_moments[0].state_dict())
    network.error_moments[1].load_state_dict(network.error_moments[0].state_dict())
    with torch.no_grad():
        dict(network.named_parameters())["shared.6x4.1.shift"][1] += 1.0
    (a, _), (b, _) = network("a", *factors(5)), network("b", *factors(5))
    torch.testing.assert_close(b, a + 1.0)


def test_a_saved_network_comes_back_rounded_to_half_precision_only(tmp_path: Path) -> None:
    network = shaken(seen_network())
    TrainedNetwork(network, {"base": "abc", "model": "tiny"}).save(tmp_path)
    loaded = TrainedNetwork.load(tmp_path)
    assert loaded.card["base"] == "abc" and loaded.network.is_trained
    x, error = factors(5)
    for once, again in zip(network("a", x, error), loaded.network("a", x, error), strict=True):
        torch.testing.assert_close(once, again, atol=2e-2, rtol=2e-2)
    TrainedNetwork(loaded.network, loaded.card).save(tmp_path / "again")
    assert (tmp_path / "again" / TENSORS_FILE).read_bytes() == (tmp_path / TENSORS_FILE).read_bytes()
    assert (tmp_path / "again" / CARD_FILE).read_text() == (tmp_path / CARD_FILE).read_text()


@pytest.mark.parametrize("name", [CARD_FILE, TENSORS_FILE])
def test_a_pipe_in_the_place_of_a_network_file_is_refused(name: str, tmp_path: Path) -> None:
    TrainedNetwork(seen_network(), {}).save(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(AuditError, match=rf"cannot be read \({name} is a named pipe, not a file\); train it again"):
        TrainedNetwork.load(tmp_path)


def test_damaged_network_files_are_refused(tmp_path: Path) -> None:
    TrainedNetwork(seen_network(), {}).save(tmp_path)
    tensors = load_file(tmp_path / TENSORS_FILE)
    save_file(tensors | {"rates": tensors["rates"] + 1}, tmp_path / TENSORS_FILE)
    with pytest.raises(AuditError, match=r"not those of the card\); train it again with audit train-mend"):
        TrainedNetwork.load(tmp_path)
    (tmp_path / CARD_FILE).write_text(json.dumps({"format": "other"}))
    with pytest.raises(AuditError, match="its format is 'other'"):
        TrainedNetwork.load(tmp_path)
    (tmp_path / CARD_FILE).write_text("{")
    with pytest.raises(AuditError, match="cannot be read"):
        TrainedNetwork.load(tmp_path)
