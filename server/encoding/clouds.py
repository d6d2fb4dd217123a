"""Read the points of a stored point cloud, for a viewer. A sandboxed process parses the file."""

import asyncio
from dataclasses import asdict

from server.context import client
from server.encoding.decode.frames import CloudJob, FrameError, read_frame
from server.encoding.decode.pool import MAX_TIME_PER_CPU_TIME, MediaError
from server.encoding.start import end, start
from server.errors import Unavailable
from server.fairness import FairShare
from server.media.blob import Blob
from server.settings import Settings

READER = "server.encoding.decode.cloud_reader"
MAX_RUNNING = 8  # Clouds that are read at a time, per API process; one client gets half of them.
BYTES_PER_POINT = 12
DAMAGED = "the point cloud cannot be read"


class CloudReader:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running = FairShare(MAX_RUNNING)

    async def read(self, content: Blob) -> bytes:
        """Return the points (N, 3) in the unit sphere as little-endian float32 numbers.

        Raises MediaError: when the file is not a readable cloud.
        Raises Unavailable: when too many clouds are being read.
        """
        if not self._running.take(caller := client()):
            raise Unavailable("too many point clouds are being read", code="cloud_queue_full")
        try:
            return await self._read(content)
        finally:
            self._running.give_back(caller)

    async def _read(self, content: Blob) -> bytes:
        settings = self._settings
        job = CloudJob(
            asdict(settings.limits), settings.decode_memory_bytes, settings.decode_timeout_s
        )
        max_bytes = settings.limits.cloud_points * BYTES_PER_POINT
        process = await start(READER, content, asdict(job))
        try:
            assert process.stdout is not None
            async with asyncio.timeout(job.cpu_s * MAX_TIME_PER_CPU_TIME):
                header, points = await read_frame(process.stdout, max_bytes)
        except (asyncio.IncompleteReadError, OSError, FrameError, TimeoutError):
            raise MediaError(DAMAGED) from None
        finally:
            await end(process)
        if "error" in header:
            raise MediaError(str(header["error"])[:300])
        return points
