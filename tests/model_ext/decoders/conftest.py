"""A small flow decoder with random weights."""

import pytest
import torch

from model_ext.decoders.flow import Flow
from model_ext.decoders.flow_config import FlowConfig

SIZES = FlowConfig(
    embed_dim=6, side=8, components=10, width=16, blocks=2, condition_width=8, steps=4
)


def random_flow(sizes: FlowConfig = SIZES) -> Flow:
    """A flow whose components are orthonormal, as principal components are."""
    torch.manual_seed(0)
    flow = Flow(sizes)
    flow.basis.copy_(torch.linalg.qr(torch.randn(3 * sizes.side**2, sizes.components))[0].T)
    flow.scale.copy_(torch.rand(sizes.components) + 0.5)
    flow.deviation.copy_(torch.rand(sizes.components) + 0.5)
    flow.mean.copy_(0.1 * torch.randn(3 * sizes.side**2))
    return flow.eval()


@pytest.fixture
def flow() -> Flow:
    return random_flow()
