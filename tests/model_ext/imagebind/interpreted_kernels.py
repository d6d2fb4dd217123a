"""Compare the Triton kernels with the plain torch version, in Triton's interpreter.

Runs as a separate program, because Triton chooses the interpreter when it is imported:
TRITON_INTERPRET=1 python -m tests.model_ext.imagebind.interpreted_kernels
"""

import torch
from torch import Tensor

from model_ext.imagebind import grouping, grouping_kernels

SMALL, FULL = 200, 2
GENERATOR = torch.Generator().manual_seed(0)


def cloud(number: int, points: int) -> Tensor:
    """Return a cloud (1, N, 3): random, with duplicate points, on a grid, or on a sphere."""
    random = torch.randn(1, points, 3, generator=GENERATOR)
    match number % 4:
        case 1:
            return random[:, torch.randint(0, max(1, points // 3), (points,), generator=GENERATOR)]
        case 2:
            return (random * 2).round() / 2
        case 3:
            return torch.nn.functional.normalize(random, dim=-1)
    return random


def check_sampling(points: Tensor, count: int) -> None:
    expected = grouping.farthest_points(points, count)
    assert torch.equal(grouping_kernels.farthest_points(points, count), expected)


def check_neighbors(points: Tensor, groups: int, count: int) -> None:
    """Compare the distances of neighbors, because neighbors at equal distances may be swapped."""
    centers = points[:, :groups].contiguous()
    distances = grouping.squared_distances(centers, points)
    indices = grouping_kernels.nearest_points(centers, points, count)
    assert all(len(set(row)) == count for row in indices.flatten(0, 1).tolist())
    expected = distances.gather(2, grouping.nearest_points(centers, points, count))
    difference = distances.gather(2, indices).sort().values - expected.sort().values
    assert difference.abs().max() < 1e-5, difference.abs().max()


def main() -> None:
    for number in range(SMALL):
        points = int(torch.randint(8, 60, (), generator=GENERATOR))
        check_sampling(cloud(number, points), 2 + number % 24)
    few = torch.cat([cloud(1, 9), cloud(2, 9)])
    check_sampling(few, 25)  # 25 groups of 9 points
    for number in range(4):
        check_neighbors(torch.cat([cloud(number, 40), cloud(number + 1, 40)]), 3, 8)
    for number in range(FULL):
        check_sampling(cloud(2 * number, 8192), 512)
    check_neighbors(cloud(0, 8192), 4, 32)
    print(f"{SMALL} small and {FULL} full-size clouds are equal")


if __name__ == "__main__":
    main()
