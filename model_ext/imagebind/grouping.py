"""Cut point clouds into local groups: farthest point sampling, then nearest neighbours.

Plain torch, vectorised over the batch, no CUDA extension to build. Knows coordinates only.
Shapes: B clouds, N points, G groups, K points in a group.
"""

import torch
from torch import Tensor

MAX_DISTANCES = 2**25  # of the (B, G, N) distances, as many are held at a time (128 MiB)


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices (B, count) of points far from one another, out of (B, N, 3).

    Starts at index 0, so that a cloud always has the same embedding; the released code draws the
    first index at random. Each step takes the point farthest from all chosen ones, the first of
    equals. If count > N, indices repeat.
    """
    clouds = torch.arange(len(points), device=points.device)
    chosen = torch.zeros(len(points), count, dtype=torch.int64, device=points.device)
    nearest = points.new_full(points.shape[:2], 1e10)  # squared distance to the chosen ones
    for step in range(1, count):
        newest = points[clouds, chosen[:, step - 1]]
        distance = (points - newest[:, None]).square().sum(-1)
        nearest = torch.minimum(nearest, distance)
        chosen[:, step] = nearest.argmax(-1)
    return chosen


def nearest_points(centers: Tensor, points: Tensor, count: int) -> Tensor:
    """Indices (B, G, count), in no order, of the points nearest to each center (B, G, 3)."""
    at_a_time = max(1, MAX_DISTANCES // points[..., 0].numel())
    found = []
    for start in range(0, centers.shape[1], at_a_time):
        distances = squared_distances(centers[:, start : start + at_a_time], points)
        found.append(distances.topk(count, largest=False, sorted=False).indices)
    return torch.cat(found, dim=1)


def squared_distances(centers: Tensor, points: Tensor) -> Tensor:
    """(B, G, 3), (B, N, 3) -> (B, G, N), as -2 c.x + |c|^2 + |x|^2 like the released model.

    The product is written out: a matrix product may run in TF32 or, under autocast, in bfloat16,
    which picks other neighbours.
    """
    a, b = centers[:, :, None], points[:, None]
    dot = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return -2 * dot + centers.square().sum(-1)[:, :, None] + points.square().sum(-1)[:, None]


@torch.no_grad()
def group(points: Tensor, groups: int, group_size: int) -> tuple[Tensor, Tensor]:
    """(B, N, 3) -> neighborhoods (B, G, K, 3) relative to their centers, and centers (B, G, 3).

    Always in float32: half precision moves the points.
    """
    if points.ndim != 3 or points.shape[-1] != 3:
        raise ValueError(f"expected points (B, N, 3), got {tuple(points.shape)}")
    if points.shape[1] < group_size:
        raise ValueError(f"a cloud needs at least {group_size} points, got {points.shape[1]}")
    points = points.float()
    clouds = torch.arange(len(points), device=points.device)
    centers = points[clouds[:, None], farthest_points(points, groups)]
    neighbors = nearest_points(centers, points, group_size)
    return points[clouds[:, None, None], neighbors] - centers[:, :, None], centers
