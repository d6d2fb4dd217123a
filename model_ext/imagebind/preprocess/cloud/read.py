"""Read a point cloud of any format into a table (N, 3) of finite numbers.

`points.py` turns the table into the encoder's input, and `views.py` turns it into the points that
the page's viewer draws.
Shapes: N points.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.cloud.arrays import read_archive, read_array
from model_ext.imagebind.preprocess.cloud.formats import cloud_format
from model_ext.imagebind.preprocess.cloud.las import read_las
from model_ext.imagebind.preprocess.cloud.mesh import read_glb, read_off, read_stl
from model_ext.imagebind.preprocess.cloud.pcd import read_pcd
from model_ext.imagebind.preprocess.cloud.ply import read_ply
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.cloud.text import read_obj, read_pts, read_xyz
from model_ext.imagebind.preprocess.cloud.torch_file import read_torch_file
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes

Reader = Callable[[bytes, int], Cloud]

READERS: dict[str, Reader] = {
    **{"npy": read_array, "npz": read_archive, "ply": read_ply, "pcd": read_pcd, "las": read_las},
    **{"off": read_off, "stl": read_stl, "glb": read_glb, "pt": read_torch_file},
    **{"obj": read_obj, "pts": read_pts, "xyz": read_xyz},
}


def read_cloud(data: bytes, limits: Limits, notes: Notes, *, min_points: int = 1) -> Cloud:
    """Read a cloud (N, 3), drop points that are not finite, and keep at most `cloud_points` points.

    Raises DecodeError: when the cloud cannot be read or has fewer than `min_points` points.
    """
    name = cloud_format(data)
    if name is None:
        raise unreadable("point cloud", data)
    if name == "pt" and not limits.torch_clouds:
        raise DecodeError("point clouds as .pt files are not accepted: save as .npy or .ply")
    notes["format"] = name
    cloud = READERS[name](data, limits.cloud_file_points)
    finite = np.isfinite(cloud)
    if not finite.all():  # the check of each row is slower
        rows = finite.all(axis=1)
        notes["dropped_rows"] = int((~rows).sum())
        cloud = cloud[rows]
    if len(cloud) < min_points:
        raise DecodeError(f"the point cloud has fewer than {min_points} points")
    if len(cloud) > limits.cloud_points:
        notes["subsampled_from"] = len(cloud)
        cloud = cloud[np.sort(resampled(len(cloud), limits.cloud_points))]
    return cloud


def resampled(available: int, points: int) -> NDArray[np.int64]:
    """Return the indices (points,) of random points.

    Equal arguments give equal indices. If the cloud has fewer than `points` points, some points are
    repeated.
    """
    order = np.random.default_rng(0).permutation(available)
    return np.resize(order, points)


def into_unit_sphere(cloud: Cloud) -> Cloud:
    """Move the mean of a cloud (N, 3) to 0, and scale the farthest point to distance 1."""
    exact = cloud.astype(np.float64)
    # Divide before adding, because the sum of very large coordinates would overflow.
    exact /= max(float(np.abs(exact).max()), 1e-300)
    exact -= exact.mean(axis=0)
    return exact / max(float(np.linalg.norm(exact, axis=1).max()), 1e-300)
