"""Sample a point cloud on the surface of an extruded silhouette.

Plain numpy. Shapes: N points, S the side of the mask in pixels.
"""

import numpy as np
from numpy.typing import NDArray

POINTS = 2048
WALL_SHARE = 0.3  # share of points on the rim of the shape; all other points are on its two faces


def extrude(
    mask: NDArray[np.bool_], rng: np.random.Generator, points: int = POINTS
) -> NDArray[np.float32]:
    """Extrude a mask (S, S) to a cloud (N, 3) float32 in the unit sphere: x right, y up, z forward.

    Raises ValueError: when the mask is empty.
    """
    # one empty pixel on each side: a mask that fills the picture has no edge otherwise
    mask = np.pad(mask, 1)
    inside = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0)
    inside &= np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    rim = np.argwhere(mask & ~inside)
    face = np.argwhere(mask)
    if len(face) == 0:
        raise ValueError("mask: must have at least one pixel")
    on_rim = rng.random(points) < WALL_SHARE
    pixels = np.where(
        on_rim[:, None],
        rim[rng.integers(len(rim), size=points)],
        face[rng.integers(len(face), size=points)],
    )
    position = pixels + rng.random((points, 2))  # A random position in the pixel.
    half = rng.uniform(0.04, 0.12) * len(mask)  # Half of the shape's thickness.
    depth = np.where(on_rim, rng.uniform(-1, 1, points), rng.choice([-1.0, 1.0], points)) * half
    cloud = np.stack([position[:, 1], -position[:, 0], depth], axis=1)
    cloud -= cloud.mean(axis=0)
    cloud /= np.linalg.norm(cloud, axis=1).max()
    return cloud.astype(np.float32)
