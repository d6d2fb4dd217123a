"""Cut point clouds into local groups: farthest point sampling, then nearest neighbors.

Plain torch on a CPU. On a GPU, `grouping_kernels` computes clouds that fit into one thread block,
and chooses the same points. Shapes: B clouds, N points, G groups, K points in a group.
"""

import torch
from torch import Tensor

from model_ext.imagebind.config import KERNEL_POINTS

MAX_DISTANCES = 2**22  # number of distances computed at a time: 16 MB, about a CPU's cache


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Choose `count` points of each cloud (B, N, 3) that are far apart.

    Returns indices (B, count). The first index is 0, so that a cloud always has the same embedding;
    the released code chooses the first point at random. Each next point is the one that is farthest
    from all chosen points or, at equal distances, the one with the lowest index. If count > N,
    indices repeat.
    """
    chosen = torch.zeros(len(points), count, dtype=torch.int64, device=points.device)
    # The layout (3, B, N) is twice as fast as (B, N, 3).
    axes = points.permute(2, 0, 1).contiguous()
    nearest = torch.full_like(axes[0], 1e10)  # squared distances to the nearest chosen point
    for step in range(1, count):
        newest = chosen[:, step - 1 : step].expand(3, -1, -1)
        offsets = axes - axes.gather(2, newest)
        # Products and sums are separate operations and round separately, as in the kernel, because
        # a fused multiply-add could choose other points.
        x, y, z = offsets.mul_(offsets)
        torch.minimum(nearest, x.add_(y).add_(z), out=nearest)
        chosen[:, step] = nearest.argmax(-1)
    return chosen


def nearest_points(centers: Tensor, points: Tensor, count: int) -> Tensor:
    """Return the indices (B, G, count), in any order, of the `count` points nearest to each center
    (B, G, 3).
    """
    step = max(1, MAX_DISTANCES // points[..., 0].numel())
    neighbors = []
    for start in range(0, centers.shape[1], step):
        distances = squared_distances(centers[:, start : start + step], points)
        neighbors.append(distances.topk(count, largest=False, sorted=False).indices)
    return torch.cat(neighbors, dim=1)


def squared_distances(centers: Tensor, points: Tensor) -> Tensor:
    """Return the squared distances (B, G, N) of centers (B, G, 3) and points (B, N, 3).

    Computed as -2 c.x + |c|^2 + |x|^2, like the released model.

    The product c.x is a sum of three terms, because a matrix product may run in TF32 or, under
    autocast, in bfloat16, which would select other neighbors.
    """
    left, right = -2 * centers[:, :, None], points[:, None]
    distances = left[..., 0] * right[..., 0]
    distances.addcmul_(left[..., 1], right[..., 1]).addcmul_(left[..., 2], right[..., 2])
    return distances.add_(centers.square().sum(-1)[..., None]).add_(
        points.square().sum(-1)[:, None]
    )


@torch.no_grad()
def group(points: Tensor, groups: int, group_size: int) -> tuple[Tensor, Tensor]:
    """Group points (B, N, 3).

    Returns neighborhoods (B, G, K, 3) relative to their centers, and the centers (B, G, 3).
    Computes in float32 for points of any dtype, because half precision would move them. Raises
    ValueError: when the shape is not (B, N, 3), or a cloud has fewer than K points.
    """
    if points.ndim != 3 or points.shape[-1] != 3:
        raise ValueError(f"expected points (B, N, 3), got {tuple(points.shape)}")
    if points.shape[1] < group_size:
        raise ValueError(f"a cloud needs at least {group_size} points, got {points.shape[1]}")
    points = points.float().contiguous()
    clouds = torch.arange(len(points), device=points.device)
    if points.is_cuda and points.shape[1] <= KERNEL_POINTS[-1]:
        # The import is here because a CPU installation has no Triton.
        from model_ext.imagebind import grouping_kernels as kernels

        centers = points[clouds[:, None], kernels.farthest_points(points, groups)]
        neighbors = kernels.nearest_points(centers, points, group_size)
    else:
        centers = points[clouds[:, None], farthest_points(points, groups)]
        neighbors = nearest_points(centers, points, group_size)
    return points[clouds[:, None, None], neighbors] - centers[:, :, None], centers
