"""The bind network gives the recorded outputs of the released code, for all kinds of adapter."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from model_ext.bind import BindBlock, BindNetwork
from model_ext.config import BindConfig
from tests.rounding import between, bind_terms

FIXTURES = Path(__file__).parents[1] / "fixtures"
VISUAL = load_file(FIXTURES / "golden" / "visual.safetensors")
CONFIG = BindConfig(in_features=40, hidden_size=128, intermediate_size=512)
LEGACY = BindConfig(
    in_features=40,
    hidden_size=128,
    intermediate_size=512,
    norm="layernorm",
    norm_eps=1e-5,
    bias=True,
)
CHECKPOINTS = {
    "finetune": ("adapter-finetune.pth", CONFIG),
    "pretrain": ("adapter-pretrain.pth", CONFIG),
    "legacy": ("adapter-legacy-bridge.pth", LEGACY),
}
PARTS = {"f1": "gate_proj", "f2": "down_proj", "f3": "up_proj", "norm": "norm"}


def released_network(checkpoint: str) -> BindNetwork:
    """Load the bind network from the adapter file, without the converter's table of names."""
    file, config = CHECKPOINTS[checkpoint]
    state = {}
    released = torch.load(FIXTURES / "tiny" / file, weights_only=True)["model"]
    for name, tensor in released.items():
        if name.startswith("image_bind_proj."):
            state[name.removeprefix("image_bind_")] = tensor
        elif name.startswith("image_bind_"):
            part, number = name.removeprefix("image_bind_").split(".")[0].split("_")
            leaf = name.rsplit(".", 1)[1]
            state[f"blocks.{int(number) - 1}.{PARTS[part]}.{leaf}"] = tensor
    network = BindNetwork(config)
    network.load_state_dict(state)
    return network.requires_grad_(False)


def assert_close(bound: torch.Tensor, expected: torch.Tensor) -> None:
    error = between(bind_terms(asdict(CONFIG))) * expected.abs().max().item()
    torch.testing.assert_close(bound, expected, atol=error, rtol=0)


@pytest.mark.parametrize("key", [key for key in VISUAL if key.endswith("/bind")])
def test_released_values(key: str) -> None:
    source, checkpoint, _ = key.rsplit("/", 2)
    kind = "enhanced" if "knn" in source else "mixed"
    bound = released_network(checkpoint)(VISUAL[f"{source}/{kind}"])
    assert_close(bound, VISUAL[key][:, 0])


def test_all_three_checkpoints_have_goldens() -> None:
    checkpoints = [key.rsplit("/", 2)[1] for key in VISUAL if key.endswith("/bind")]
    assert set(checkpoints) == set(CHECKPOINTS)
    assert len(checkpoints) == 50


def test_requests_of_a_batch_do_not_mix() -> None:
    network = released_network("finetune")
    embeddings = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    one_by_one = torch.cat([network(embedding[None]) for embedding in embeddings])
    assert_close(network(embeddings), one_by_one)


@pytest.mark.parametrize("config", [CONFIG, LEGACY], ids=["rmsnorm", "layernorm"])
def test_block_follows_the_formula(config: BindConfig) -> None:
    """A block computes x + f2(silu(f1(norm x)) * f3(norm x)).

    For the small inputs of this test, the norm's epsilon changes the result.
    """
    torch.manual_seed(0)
    block = BindBlock(config).requires_grad_(False)
    block.norm.weight.uniform_(0.5, 1.5)
    x = torch.randn(3, 128) * 1e-3
    h = normed(block, config, x)
    gained = block.down_proj(F.silu(block.gate_proj(h)) * block.up_proj(h))
    torch.testing.assert_close(block(x), x + gained)
    assert gained.abs().max() > 1e-3


def normed(block: BindBlock, config: BindConfig, x: Tensor) -> Tensor:
    if config.norm == "rmsnorm":
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6) ** -0.5 * block.norm.weight
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred * (centred.pow(2).mean(-1, keepdim=True) + 1e-5) ** -0.5
    return scaled * block.norm.weight + block.norm.bias


def test_biases_follow_the_config() -> None:
    assert {name for name, _ in BindNetwork(CONFIG).named_parameters() if "bias" in name} == {
        "proj.bias"
    }
    legacy = [name for name, _ in BindNetwork(LEGACY).named_parameters() if "bias" in name]
    assert len(legacy) == 1 + 3 * 4
