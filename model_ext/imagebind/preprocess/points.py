"""Decode point clouds into (N, 3) float32.

As in the released model, coordinates are not centered or scaled, unless the request sets
`normalize`. If the model was trained on clouds of a fixed number of points, each cloud is resampled
to this number, because the encoder's groups of points depend on the density. Shapes: N points.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.imagebind.preprocess.cloud.arrays import read_archive, read_array
from model_ext.imagebind.preprocess.cloud.formats import cloud_format
from model_ext.imagebind.preprocess.cloud.las import read_las
from model_ext.imagebind.preprocess.cloud.mesh import read_glb, read_off, read_stl
from model_ext.imagebind.preprocess.cloud.pcd import read_pcd
from model_ext.imagebind.preprocess.cloud.ply import read_ply
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.cloud.text import read_obj, read_pts, read_xyz
from model_ext.imagebind.preprocess.cloud.torch_file import read_torch_file
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions

# Maximum absolute coordinate. It keeps squared distances below 1e10, the initial value in farthest
# point sampling, and coordinates fit into float16. The released example clouds are in the unit
# sphere.
MAX_COORDINATE = 10_000.0
UNIT = 1.001  # radius of the unit sphere, with a tolerance for rounded coordinates

Reader = Callable[[bytes, int], Cloud]

READERS: dict[str, Reader] = {
    **{"npy": read_array, "npz": read_archive, "ply": read_ply, "pcd": read_pcd, "las": read_las},
    **{"off": read_off, "stl": read_stl, "glb": read_glb, "pt": read_torch_file},
    **{"obj": read_obj, "pts": read_pts, "xyz": read_xyz},
}


def read_points(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a point cloud to (N, 3) float32."""
    notes = {} if notes is None else notes
    name = cloud_format(data)
    if name is None:
        raise unreadable("point cloud", data)
    if name == "pt" and not limits.torch_clouds:
        raise DecodeError("point clouds as .pt files are not accepted: save as .npy or .ply")
    notes["format"] = name
    cloud = READERS[name](data, limits.cloud_file_points)
    finite = np.isfinite(cloud).all(axis=1)
    if not finite.all():
        notes["dropped_rows"] = int((~finite).sum())
        cloud = cloud[finite]
    if len(cloud) < config.min_points:
        raise DecodeError(f"the point cloud has fewer than {config.min_points} points")
    if len(cloud) > limits.cloud_points:
        notes["subsampled_from"] = len(cloud)
        cloud = cloud[np.sort(resampled(len(cloud), limits.cloud_points))]
    cloud = _normalized(cloud, options, notes)
    if np.abs(cloud).max() > MAX_COORDINATE:
        raise DecodeError(
            f"the point cloud has coordinates beyond {MAX_COORDINATE:g}:"
            ' scale it into the unit sphere, or add `"normalize": "auto"` to its part'
        )
    if config.points is not None:
        cloud = cloud[resampled(len(cloud), config.points)]
    return torch.from_numpy(np.ascontiguousarray(cloud, np.float32))


def _normalized(cloud: Cloud, options: ReadOptions, notes: Notes) -> Cloud:
    """If the option `normalize` is set, move the mean to 0, and scale the farthest point to
    distance 1.
    """
    if not options.normalize:
        return cloud
    exact = cloud.astype(np.float64)
    if options.normalize == "auto" and np.linalg.norm(exact, axis=1).max() <= UNIT:
        return cloud
    notes["normalized"] = True
    # Divide first, because the sum of very large coordinates would overflow.
    exact /= max(float(np.abs(exact).max()), 1e-300)
    exact -= exact.mean(axis=0)
    return exact / max(float(np.linalg.norm(exact, axis=1).max()), 1e-300)


def resampled(available: int, points: int) -> NDArray[np.int64]:
    """Return the indices (points,) of random points.

    Equal arguments give equal indices. If the cloud has fewer than `points` points, some points are
    repeated.
    """
    order = np.random.default_rng(0).permutation(available)
    return np.resize(order, points)
