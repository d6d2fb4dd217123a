"""The contrastive loss equals that of a slow loop. An update of Muon has the same singular vectors
as the gradient.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from model_ext.train.encoders.loss import contrast
from model_ext.train.encoders.muon import Muon, orthogonalized


def test_contrast_is_both_ways_over_the_batch() -> None:
    anchors = F.normalize(torch.randn(5, 8), dim=1)
    others = 7 * F.normalize(torch.randn(5, 8), dim=1)
    total = 0.0
    for i in range(5):
        forth = [float(anchors[i] @ others[j]) for j in range(5)]
        back = [float(anchors[j] @ others[i]) for j in range(5)]
        for scores in (forth, back):
            total += math.log(sum(math.exp(score) for score in scores)) - scores[i]
    assert contrast(anchors, others).item() == pytest.approx(total / 10, rel=1e-5)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_orthogonalized_equals_the_polar_factor_nearly(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalized(matrix)
    spread = torch.linalg.svdvals(result)
    assert spread.min() > 0.5
    assert spread.max() < 1.3
    # `result` has the singular vectors of `matrix`, so u^T X v is diagonal.
    inner = u.T @ result @ v.T
    off = inner - torch.diag(inner.diagonal())
    assert off.abs().max() < 1e-3


def test_muon_steps_are_as_large_as_adamws() -> None:
    parameter = torch.nn.Parameter(torch.zeros(32, 128))
    parameter.grad = torch.randn(32, 128)
    Muon([parameter], lr=1.0, weight_decay=0.0).step()
    assert parameter.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.3)
    assert (parameter * parameter.grad).sum() < 0  # the parameter has moved against the gradient
