"""Rows in rotate-half order give the same attention scores as rows in the released order."""

import torch
from torch import Tensor

from model_ext.weights.rotary import rotate_half_rows

HEADS, SIZE, TOKENS, C = 3, 8, 5, 24


def neighbours(x: Tensor) -> Tensor:
    """Rotate pairs of neighbouring rows of (T, H, d), as the released code does."""
    theta = 10000.0 ** -(torch.arange(0, SIZE, 2) / SIZE)
    angle = torch.outer(torch.arange(TOKENS), theta)[:, None]
    pairs = torch.view_as_complex(x.reshape(TOKENS, HEADS, SIZE // 2, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(2)


def halves(x: Tensor) -> Tensor:
    theta = 10000.0 ** -(torch.arange(0, SIZE, 2) / SIZE)
    angle = torch.outer(torch.arange(TOKENS), theta)[:, None]
    first, second = x.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def test_scores_are_unchanged() -> None:
    torch.manual_seed(0)
    x = torch.randn(TOKENS, C)
    wq, wk, bias = torch.randn(HEADS * SIZE, C), torch.randn(HEADS * SIZE, C), torch.randn(C)

    def heads(weight: Tensor, added: Tensor) -> Tensor:
        return (x @ weight.T + added).view(TOKENS, HEADS, SIZE)

    released = torch.einsum(
        "qhd,khd->hqk", neighbours(heads(wq, bias)), neighbours(heads(wk, torch.zeros(())))
    )
    query = halves(heads(rotate_half_rows(wq, SIZE), rotate_half_rows(bias, SIZE)))
    key = halves(heads(rotate_half_rows(wk, SIZE), torch.zeros(())))
    scores = torch.einsum("qhd,khd->hqk", query, key)
    torch.testing.assert_close(scores, released, atol=1e-4, rtol=1e-4)


def test_rows_of_each_head_move_by_the_rule() -> None:
    """In each head, rows 2i become the first half, and rows 2i + 1 become the second half."""
    rows = torch.arange(HEADS * SIZE)
    expected = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    assert torch.equal(rotate_half_rows(rows, SIZE)[:SIZE], expected)
    assert torch.equal(rotate_half_rows(rows, SIZE)[SIZE : 2 * SIZE], expected + SIZE)


def test_lora_may_be_reordered_before_or_after_merging() -> None:
    torch.manual_seed(0)
    weight, lora_a, lora_b = torch.randn(C, C), torch.randn(4, C), torch.randn(C, 4)
    before = rotate_half_rows(weight, SIZE) + rotate_half_rows(lora_b, SIZE) @ lora_a
    after = rotate_half_rows(weight + lora_b @ lora_a, SIZE)
    torch.testing.assert_close(before, after)
