"""Reading point clouds for a viewer, in real processes."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray

from server.encoding.clouds import MAX_RUNNING, CloudReader
from server.encoding.decode.pool import MediaError
from server.errors import Unavailable
from server.media.blob import MemoryBlob
from server.settings import Settings

POINTS = np.random.default_rng(0).normal(size=(500, 3)) * 3 + 5_000_000


def saved(points: NDArray[np.float64]) -> MemoryBlob:
    file = io.BytesIO()
    np.save(file, points)
    return MemoryBlob(file.getvalue())


def reader(**settings: object) -> CloudReader:
    return CloudReader(Settings.load(model="m", **settings))


async def test_points_are_scaled_into_the_unit_sphere() -> None:
    """Coordinates of millions of metres keep their precision: the oracle computes in float64."""
    points = np.frombuffer(await reader().read(saved(POINTS)), "<f4").reshape(-1, 3)
    centered = POINTS - POINTS.mean(axis=0)
    expected = centered / np.linalg.norm(centered, axis=1).max()
    np.testing.assert_allclose(points, expected, atol=1e-6)


async def test_a_large_cloud_is_subsampled() -> None:
    data = await reader(limits={"cloud_points": 50}).read(saved(POINTS))
    assert len(data) == 50 * 12


async def test_a_damaged_file_is_the_clients_error() -> None:
    with pytest.raises(MediaError, match="point cloud"):
        await reader().read(MemoryBlob(b"ply\nformat ascii 1.0\nelement vertex 9\nend_header\n"))
    with pytest.raises(MediaError):
        await reader().read(MemoryBlob(b"\x89PNG\r\n\x1a\n"))


async def test_one_client_may_read_half_of_the_clouds() -> None:
    clouds = reader()
    for _ in range(MAX_RUNNING // 2):
        assert clouds._running.take("")
    with pytest.raises(Unavailable) as error:
        await clouds.read(saved(POINTS))
    assert error.value.code == "cloud_queue_full"
