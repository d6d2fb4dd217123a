"""Shapes: a point cloud on the surface of an icon's silhouette, cut out of a thick board.

Plain numpy. Knows masks only, not where they come from.
Shapes: N points, S the side of the mask in pixels.
"""

import numpy as np
from numpy.typing import NDArray

POINTS = 2048
WALL_SHARE = 0.3  # of the points lie on the rim, the others on the two faces


def extrude(
    mask: NDArray[np.bool_], rng: np.random.Generator, points: int = POINTS
) -> NDArray[np.float32]:
    """A mask (S, S) as a cloud (N, 3) float32 in the unit sphere, x right, y up, z towards us."""
    mask = np.pad(mask, 1)  # what fills the whole picture has a rim as well
    inside = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0)
    inside &= np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
    rim = np.argwhere(mask & ~inside)
    face = np.argwhere(mask)
    if len(face) == 0:
        raise ValueError("an empty silhouette has no surface")
    on_rim = rng.random(points) < WALL_SHARE
    pixels = np.where(
        on_rim[:, None],
        rim[rng.integers(len(rim), size=points)],
        face[rng.integers(len(face), size=points)],
    )
    place = pixels + rng.random((points, 2))  # anywhere in its pixel
    half = rng.uniform(0.04, 0.12) * len(mask)  # of the board's thickness
    depth = np.where(on_rim, rng.uniform(-1, 1, points), rng.choice([-1.0, 1.0], points)) * half
    cloud = np.stack([place[:, 1], -place[:, 0], depth], axis=1)
    cloud -= cloud.mean(axis=0)
    cloud /= np.linalg.norm(cloud, axis=1).max()
    return cloud.astype(np.float32)
