"""Cut point clouds into local groups: farthest point sampling, then nearest neighbours.

Plain torch, vectorised over the batch, no CUDA extension to build. Knows coordinates only.
Shapes: B clouds, N points, G groups, K points in a group.
"""

import torch
from torch import Tensor

MAX_DISTANCES = 2**22  # of the (B, G, N) distances, as many are held at a time: 16 MB, near cache


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Indices (B, count) of points far from one another, out of (B, N, 3).

    Starts at index 0, so that a cloud always has the same embedding; the released code draws the
    first index at random. Each step takes the point farthest from all chosen ones, the first of
    equals. If count > N, indices repeat.
    """
    chosen = torch.zeros(len(points), count, dtype=torch.int64, device=points.device)
    axes = [axis.contiguous() for axis in points.unbind(-1)]  # 3 x (B, N): half the time of (N, 3)
    nearest = torch.full_like(axes[0], 1e10)  # squared distance to the chosen ones
    for step in range(1, count):
        newest = chosen[:, step - 1 : step]
        distance = torch.zeros_like(nearest)
        for axis in axes:
            offset = axis - axis.gather(1, newest)
            distance.addcmul_(offset, offset)
        torch.minimum(nearest, distance, out=nearest)
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
    left, right = -2 * centers[:, :, None], points[:, None]
    distances = left[..., 0] * right[..., 0]
    distances.addcmul_(left[..., 1], right[..., 1]).addcmul_(left[..., 2], right[..., 2])
    return distances.add_(centers.square().sum(-1)[..., None]).add_(
        points.square().sum(-1)[:, None]
    )


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
