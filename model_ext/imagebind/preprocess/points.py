"""Decode point clouds into (N, 3) float32. The content determines the format.

Formats are .npy, .ply, .pcd, .obj, .pts, .xyz and, if enabled, .pt.

As in the released model, coordinates are neither centered nor scaled, and clouds are not resampled.
An exception: for a model that was trained on a fixed number of points, clouds are resampled to this
number, because the density of points affects the groups. Shapes: N points.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.imagebind.preprocess.cloud.pcd import read_pcd
from model_ext.imagebind.preprocess.cloud.ply import read_ply
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.cloud.text import read_obj, read_pts, read_xyz, text_format
from model_ext.imagebind.preprocess.cloud.torch_file import ZIP, read_torch_file
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.npy import MAGIC, read_npy

# Maximum absolute coordinate. With it, squared distances stay below the initial distance of
# farthest point sampling (1e10), and coordinates fit into float16. The released example clouds are
# in the unit sphere.
MAX_COORDINATE = 10_000.0

Reader = Callable[[bytes, int], Cloud]

BY_FORMAT: dict[str, Reader] = {"obj": read_obj, "pts": read_pts, "xyz": read_xyz}


def read_points(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode a point cloud to (N, 3) float32."""
    cloud = reader(data, limits)(data, limits.cloud_points)
    if len(cloud) < config.min_points:
        raise DecodeError(f"the point cloud has fewer than {config.min_points} points")
    if not np.isfinite(cloud).all():
        raise DecodeError("the point cloud has coordinates that are not finite numbers")
    if np.abs(cloud).max() > MAX_COORDINATE:
        raise DecodeError(
            f"the point cloud has coordinates beyond {MAX_COORDINATE:g}:"
            " scale it, best into the unit sphere"
        )
    if config.points is not None:
        cloud = cloud[resampled(len(cloud), config.points)]
    return torch.from_numpy(np.ascontiguousarray(cloud))


def resampled(available: int, points: int) -> NDArray[np.int64]:
    """Choose points at random, but always the same for equal arguments: indices (points,).

    If the cloud has fewer than `points` points, some points are repeated.
    """
    order = np.random.default_rng(0).permutation(available)
    return np.resize(order, points)


def reader(data: bytes, limits: Limits) -> Reader:
    """Return the reader for the format of the bytes.

    Raises DecodeError: when the format is not supported.
    """
    if data.startswith(MAGIC):
        return _read_npy
    if data.startswith(b"ply"):
        return read_ply
    if data.startswith((b"# .PCD", b"VERSION ")):
        return read_pcd
    if data.startswith(ZIP):
        if limits.torch_clouds:
            return read_torch_file
        raise DecodeError("point clouds as .pt files are not accepted: save as .npy or .ply")
    name = text_format(data)
    if name is None:
        raise DecodeError("the point cloud is damaged or not npy, ply, pcd, obj, pts or xyz")
    return BY_FORMAT[name]


def _read_npy(data: bytes, max_points: int) -> Cloud:
    cloud = read_npy(data, 3 * max_points)
    if cloud.ndim != 2 or cloud.shape[1] != 3:
        raise DecodeError("the .npy file must have the shape (N, 3)")
    return cloud
