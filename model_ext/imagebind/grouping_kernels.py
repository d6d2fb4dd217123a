"""Triton kernels for `grouping.py`.

Sampling uses one thread block per cloud, finding neighbors one per center. The kernels replace
loops of small torch operations, whose launches take 60 ms for 512 groups. Products and sums round
separately (no fused multiply-add) and in the same order as in the torch version, so that
`farthest_points` returns the same indices as the torch version. Shapes: B clouds, N points, G
groups, K points in a group.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from model_ext.imagebind.config import KERNEL_POINTS


@triton.jit(do_not_specialize=["points_count", "count"])
def _farthest_points(points, chosen, points_count, count, BLOCK: tl.constexpr):
    """points (B, N, 3) float32 -> chosen (B, count) int64. One program per cloud."""
    cloud = tl.program_id(0).to(tl.int64)
    points += cloud * points_count * 3
    chosen += cloud * count
    index = tl.arange(0, BLOCK)
    inside = index < points_count
    x = tl.load(points + 3 * index, mask=inside, other=0.0)
    y = tl.load(points + 3 * index + 1, mask=inside, other=0.0)
    z = tl.load(points + 3 * index + 2, mask=inside, other=0.0)
    # squared distances to the nearest chosen point; negative at indices beyond the last point
    nearest = tl.where(inside, 1e10, -1.0)
    newest = tl.program_id(0) * 0
    tl.store(chosen, newest)
    for step in range(1, count):
        dx = x - tl.load(points + 3 * newest)
        dy = y - tl.load(points + 3 * newest + 1)
        dz = z - tl.load(points + 3 * newest + 2)
        nearest = tl.minimum(nearest, dx * dx + dy * dy + dz * dz)
        newest = tl.argmax(nearest, 0, tie_break_left=True)
        tl.store(chosen + step, newest)


@triton.jit(do_not_specialize=["points_count", "groups"])
def _nearest_points(
    centers, points, neighbors, points_count, groups, COUNT: tl.constexpr, BLOCK: tl.constexpr
):
    """centers (B, G, 3), points (B, N, 3) -> neighbors (B, G, K) int64. One program per center."""
    center = tl.program_id(0).to(tl.int64)
    points += center // groups * points_count * 3
    index = tl.arange(0, BLOCK)
    inside = index < points_count
    x = tl.load(points + 3 * index, mask=inside, other=0.0)
    y = tl.load(points + 3 * index + 1, mask=inside, other=0.0)
    z = tl.load(points + 3 * index + 2, mask=inside, other=0.0)
    cx = tl.load(centers + 3 * center)
    cy = tl.load(centers + 3 * center + 1)
    cz = tl.load(centers + 3 * center + 2)
    product = -2 * cx * x + -2 * cy * y + -2 * cz * z
    distance = product + (cx * cx + cy * cy + cz * cz) + (x * x + y * y + z * z)
    distance = tl.where(inside, distance, float("inf"))
    for rank in range(COUNT):
        nearest = tl.argmin(distance, 0, tie_break_left=True)
        tl.store(neighbors + center * COUNT + rank, nearest)
        distance = tl.where(index == nearest, float("inf"), distance)


def farthest_points(points: Tensor, count: int) -> Tensor:
    """Choose points that are far apart.

    Returns indices (B, count) int64 of the points (B, N, 3), which must be contiguous float32 with
    N <= KERNEL_POINTS[-1].
    """
    chosen = torch.empty(len(points), count, dtype=torch.int64, device=points.device)
    block = _block(points)
    with torch.cuda.device_of(points):
        _farthest_points[(len(points),)](
            *(points, chosen, points.shape[1], count),
            BLOCK=block,
            num_warps=min(32, block // 256),
            enable_fp_fusion=False,
        )
    return chosen


def nearest_points(centers: Tensor, points: Tensor, count: int) -> Tensor:
    """Return the indices (B, G, count) int64 of the points (B, N, 3) nearest to each center (B, G,
    3), ordered by distance and, at equal distances, by index. Both inputs are contiguous float32.
    """
    shape = (*centers.shape[:2], count)
    neighbors = torch.empty(shape, dtype=torch.int64, device=points.device)
    block = _block(points)
    with torch.cuda.device_of(points):
        _nearest_points[(centers.shape[0] * centers.shape[1],)](
            *(centers, points, neighbors, points.shape[1], centers.shape[1]),
            COUNT=count,
            BLOCK=block,
            num_warps=block // 1024 if block > 4096 else 4,
            enable_fp_fusion=False,
        )
    return neighbors


def _block(points: Tensor) -> int:
    return next(block for block in KERNEL_POINTS if points.shape[1] <= block)
