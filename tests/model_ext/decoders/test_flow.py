"""The flow decoder: its samples, its components and its folder."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from torch.nn import functional as F

from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_file import load_flow, save_flow
from model_ext.weights.errors import ConvertError


def generators(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def test_components_describe_pictures(flow: Flow) -> None:
    x = 0.2 * torch.randn(3, 10)
    pictures = flow.pictures_of(x)
    assert pictures.shape == (3, 3, 8, 8)
    torch.testing.assert_close(flow.components_of(pictures), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_a_sample_follows_the_straight_path(flow: Flow, temperature: float) -> None:
    """Compare with a slow, simple sampler, whose velocity is (x - x_t) / (1 - t)."""
    flow.config = flow.config.model_copy(update={"temperature": temperature})
    embedding, steps, guidance = torch.tensor([3.0, 0, 0, 4.0, 0, 0]), 5, 3.0
    drawn = flow.sample(embedding[None], generators(7), steps, guidance)

    x_t = temperature * torch.randn(10, generator=Generator().manual_seed(7))[None]
    unit = torch.tensor([[0.6, 0, 0, 0.8, 0, 0]])
    for step in range(steps):
        t = step / steps
        with torch.no_grad():
            with_condition = flow(x_t, torch.tensor([t]), unit)
            without = flow(x_t, torch.tensor([t]), torch.zeros_like(unit))
        x = guidance * with_condition + (1 - guidance) * without
        x_t = x_t + (1 / steps) * (x - x_t) / (1 - t)
    expected = flow.pictures_of(x_t)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-5)


def test_without_a_correction_the_prediction_is_the_best_linear_estimate(flow: Flow) -> None:
    """For independent components with the flow's standard deviations, least squares gives the same
    estimate.
    """
    torch.nn.init.zeros_(flow.out_proj.weight)
    torch.nn.init.zeros_(flow.out_proj.bias)
    torch.manual_seed(1)
    x, noise, t = torch.randn(20_000, 10) * flow.deviation, torch.randn(20_000, 10), 0.3
    x_t = t * x + (1 - t) * noise
    factor = (x * x_t).mean(0) / x_t.square().mean(0)
    with torch.no_grad():
        predicted = flow(x_t[:50], torch.full((50,), t), torch.zeros(50, 6))
        scale = flow.residual_scale(torch.tensor([t]))[0]
    torch.testing.assert_close(predicted, factor * x_t[:50], rtol=0.1, atol=0.02)
    torch.testing.assert_close((x - factor * x_t).std(0), scale, rtol=0.05, atol=0.02)


def test_a_picture_does_not_depend_on_its_batch(flow: Flow) -> None:
    embeddings = torch.randn(3, 6)
    together = flow.sample(embeddings, generators(1, 2, 3), 4, 2.0)
    for row, seed in enumerate((1, 2, 3)):
        alone = flow.sample(embeddings[row : row + 1], generators(seed), 4, 2.0)
        assert (together[row] - alone[0]).abs().max() < 1 / 255
    assert (together[0] - together[1]).abs().max() > 0.05


def test_only_the_direction_of_an_embedding_matters(flow: Flow) -> None:
    embedding = torch.randn(1, 6)
    one = flow.sample(embedding, generators(0), 2, 1.0)
    torch.testing.assert_close(flow.sample(9 * embedding, generators(0), 2, 1.0), one)
    other = flow.sample(F.normalize(torch.randn(1, 6)), generators(0), 2, 1.0)
    assert not torch.allclose(other, one, atol=1e-3)


def test_an_exception_of_on_step_ends_the_drawing(flow: Flow) -> None:
    steps = []

    def on_step() -> None:
        steps.append(1)
        if len(steps) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        flow.sample(torch.randn(1, 6), generators(0), 50, 1.0, on_step)
    assert len(steps) == 3


def test_a_folder_holds_the_flow_in_half_precision(flow: Flow, tmp_path: Path) -> None:
    save_flow(flow, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = load_flow(tmp_path)
    assert loaded.config == flow.config
    expected: dict[str, Tensor] = flow.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_a_damaged_folder_is_named(flow: Flow, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="not a flow decoder"):
        load_flow(tmp_path)
    save_flow(flow, tmp_path)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: t for name, t in tensors.items() if name != "mean"}, weights)
    with pytest.raises(ConvertError, match="mean"):
        load_flow(tmp_path)
    weights.write_bytes(b"no tensors")
    with pytest.raises(ConvertError, match="not a flow decoder"):
        load_flow(tmp_path)
    (tmp_path / "config.json").write_text('{"decoder": "flow", "embed_dim": 6, "depth": 3}')
    with pytest.raises(ConvertError, match="depth"):
        load_flow(tmp_path)
