"""Read meshes of scanners and CAD programs (.off, .stl, .glb) with trimesh, and sample points on
their faces with a fixed seed. The vertices alone can be too few: a cube has only 8.
"""

import io

import numpy as np
import trimesh
from trimesh.sample import sample_surface

from model_ext.imagebind.preprocess.cloud.table import Cloud
from model_ext.imagebind.preprocess.errors import DecodeError

SAMPLED = 8192  # Number of points sampled from a mesh, as in the released example clouds.
MAX_NODES = 10_000  # Maximum number of nodes of a scene, which can contain a mesh many times.


def read_off(data: bytes, max_points: int) -> Cloud:
    return _read(data, "off", max_points)


def read_stl(data: bytes, max_points: int) -> Cloud:
    return _read(data, "stl", max_points)


def read_glb(data: bytes, max_points: int) -> Cloud:
    return _read(data, "glb", max_points)


def _read(data: bytes, kind: str, max_points: int) -> Cloud:
    damaged = DecodeError(f"the .{kind} file is damaged or has no faces")
    try:
        scene = trimesh.load_scene(
            io.BytesIO(data), file_type=kind, process=False, skip_materials=True, resolver=None
        )
        _check_size(scene, max_points)
        mesh = scene.to_mesh()
        if not len(mesh.faces):
            vertices: Cloud = np.asarray(mesh.vertices, np.float64)
            return vertices
        points, _ = sample_surface(mesh, SAMPLED, seed=0)
    except (DecodeError, MemoryError):
        raise
    except Exception:  # trimesh raises exceptions of many types
        raise damaged from None
    cloud = np.asarray(points, np.float64)
    if not np.isfinite(cloud).any():
        raise damaged
    return cloud


def _check_size(scene: trimesh.Scene, max_points: int) -> None:
    """Check the numbers of vertices and faces that the scene has after all its nodes are joined."""
    nodes = scene.graph.nodes_geometry
    if len(nodes) > MAX_NODES:
        raise DecodeError(f"the mesh has more than {MAX_NODES} nodes")
    sizes = {
        name: max(len(getattr(part, "faces", ())), len(part.vertices))
        for name, part in scene.geometry.items()
    }
    if sum(sizes[scene.graph[node][1]] for node in nodes) > max_points:
        raise DecodeError(f"the mesh has more than {max_points} vertices or faces")
