"""Boxes: overlap, removal of duplicates, and letterboxes, compared with simple loops."""

import numpy as np
import pytest
import torch

from model_ext.grounding.boxes import Letterbox, overlaps, suppress


def pixels(box: torch.Tensor) -> set[tuple[int, int]]:
    left, top, right, bottom = box.int().tolist()
    return {(x, y) for x in range(left, right) for y in range(top, bottom)}


def test_overlaps_are_those_of_the_pixels() -> None:
    g = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 12, (12, 2, 2), generator=g).sort(dim=1).values
    boxes = corners.flatten(1).float()
    computed = overlaps(boxes, boxes)
    for row, a in enumerate(boxes):
        for column, b in enumerate(boxes):
            union = pixels(a) | pixels(b)
            expected = len(pixels(a) & pixels(b)) / len(union) if union else 0
            assert float(computed[row, column]) == pytest.approx(expected, abs=1e-6)


def test_suppression_keeps_the_best_of_overlapping_boxes() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 10, 10.0]])
    scores = torch.tensor([0.5, 0.9, 0.3, 0.6])
    assert suppress(boxes, scores, 0.5, 10).tolist() == [1, 2]
    assert suppress(boxes, scores, 1.0, 3).tolist() == [1, 3, 0]
    assert suppress(boxes[:0], scores[:0], 0.5, 10).tolist() == []


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (1, 64), (64, 1), (7, 7)])
def test_a_letterbox_keeps_positions(size: tuple[int, int]) -> None:
    """In the square, the bright pixels of the picture end where the scaled picture ends."""
    height, width = size
    picture = torch.from_numpy(np.ones((3, height, width), np.float32))
    box = Letterbox.of(height, width, 32)
    square = box.apply(picture)
    assert square.shape == (3, 32, 32)
    rows, columns = (square[0] > 0.5).nonzero(as_tuple=True)
    assert int(rows.max()) + 1 == max(1, round(height * box.scale))
    assert int(columns.max()) + 1 == max(1, round(width * box.scale))
