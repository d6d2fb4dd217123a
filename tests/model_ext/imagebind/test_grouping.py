"""Farthest point sampling and the grouping of points equal simple loops in NumPy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model_ext.imagebind import grouping
from model_ext.imagebind.grouping import farthest_points, group, nearest_points


def slow_farthest_points(points: NDArray[np.float32], count: int) -> list[int]:
    chosen = [0]
    while len(chosen) < count:
        to_chosen = [min(float(((p - points[c]) ** 2).sum()) for c in chosen) for p in points]
        chosen.append(int(np.argmax(to_chosen)))
    return chosen


def slow_nearest_points(
    center: NDArray[np.float32], points: NDArray[np.float32], count: int
) -> set[int]:
    distances = ((points.astype(np.float64) - center) ** 2).sum(-1)
    return {int(index) for index in np.argsort(distances)[:count]}


@pytest.fixture
def clouds() -> torch.Tensor:
    return torch.rand(3, 60, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_farthest_points_equal_the_loop(clouds: torch.Tensor) -> None:
    fast = farthest_points(clouds, 20)
    assert fast.tolist() == [slow_farthest_points(cloud.numpy(), 20) for cloud in clouds]


def test_equal_distances_choose_the_first() -> None:
    square = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]]])
    assert farthest_points(square, 5).tolist() == [[0, 1, 2, 3, 4]]


def test_more_groups_than_points_repeat_points() -> None:
    cloud = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    assert farthest_points(cloud, 4).tolist() == [[0, 1, 0, 0]]


def test_nearest_points_equal_the_loop(clouds: torch.Tensor) -> None:
    centers = clouds[:, :7]
    fast = nearest_points(centers, clouds, 9)
    for cloud, its_centers, its_neighbors in zip(clouds, centers, fast, strict=True):
        for center, neighbors in zip(its_centers, its_neighbors, strict=True):
            expected = slow_nearest_points(center.numpy(), cloud.numpy(), 9)
            assert set(neighbors.tolist()) == expected


def test_large_clouds_are_measured_in_pieces(
    clouds: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nearest_points(clouds[:, :7], clouds, 9)
    monkeypatch.setattr(grouping, "MAX_DISTANCES", 2 * clouds[..., 0].numel())
    pieces = nearest_points(clouds[:, :7], clouds, 9)
    assert torch.equal(whole.sort(-1).values, pieces.sort(-1).values)


def test_groups_hold_points_relative_to_their_center(clouds: torch.Tensor) -> None:
    neighborhoods, centers = group(clouds.double(), 5, 4)
    assert neighborhoods.dtype == centers.dtype == torch.float32
    assert neighborhoods.shape == (3, 5, 4, 3)
    assert torch.equal(centers[:, 0], clouds[:, 0])
    assert (neighborhoods == 0).all(-1).any(-1).all(), "a group does not contain its center"
    absolute = (neighborhoods + centers[:, :, None]).reshape(3, -1, 3)
    nearest = torch.cdist(absolute, clouds).amin(-1)
    assert nearest.max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 3, 3), (60, 3), (1, 60, 4)])
def test_clouds_that_cannot_be_grouped_are_refused(shape: tuple[int, ...]) -> None:
    message = r"a cloud needs at least 4 points|expected points \(B, N, 3\)"
    with pytest.raises(ValueError, match=message):
        group(torch.zeros(shape), 5, 4)
