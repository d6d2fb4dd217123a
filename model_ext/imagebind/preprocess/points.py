"""Decode point clouds into (N, 3) float32.

As in the released model, coordinates are not centered or scaled, unless the request sets
`normalize`. If the model was trained on clouds of a fixed number of points, each cloud is resampled
to this number, because the encoder's groups of points depend on the density. Shapes: N points.
"""

import numpy as np
import torch
from torch import Tensor

from model_ext.imagebind.preprocess.cloud.read import into_unit_sphere, read_cloud, resampled
from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Notes, ReadOptions

# Maximum absolute coordinate. It keeps squared distances below 1e10, the initial value in farthest
# point sampling, and coordinates fit into float16. The released example clouds are in the unit
# sphere.
MAX_COORDINATE = 10_000.0
UNIT = 1.001  # radius of the unit sphere, with a tolerance for rounded coordinates


def read_points(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode a point cloud to (N, 3) float32."""
    notes = {} if notes is None else notes
    cloud = read_cloud(data, limits, notes, min_points=config.min_points)
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
    radius = np.linalg.norm(cloud.astype(np.float64), axis=1).max()
    if options.normalize == "auto" and radius <= UNIT:
        return cloud
    notes["normalized"] = True
    return into_unit_sphere(cloud)
