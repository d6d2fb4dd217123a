"""Cut a sound or a video into windows in a sandboxed process, and yield one window after the other.

The process reads the file from its descriptor, and waits until the caller takes the next window, so
that memory does not depend on the length of the file.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from pathlib import Path

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.preprocess.config import PreprocessConfig
from server.context import client
from server.encoding.decode.cut_job import CutJob
from server.encoding.decode.frames import FrameError, read_frame
from server.encoding.decode.pool import MediaError, worker_environment
from server.errors import Unavailable
from server.fairness.share import FairShare
from server.media.blob import Blob, MemoryBlob
from server.settings import Settings

CUTTER = "server.encoding.decode.cutter"
MAX_HEADER_BYTES = 1 << 10
BYTES_PER_SAMPLE = 4
HEADER_BYTES = 1 << 16  # more than the size of the headers of a window's file
FAILED = "the file cannot be cut into windows"


@dataclass(frozen=True, slots=True)
class Window:
    start: float  # seconds from the start of the file
    end: float
    content: Blob  # a WAV file, samples of speech, or an AVI file with the encoder's frames
    modality: str = "audio"


def video_frames(model: Path) -> int:
    """The number of frames of a video clip, as the encoder of this model folder reads it. Raises
    ConfigError.
    """
    sizes = model / "encoders" / "config.json"
    if not sizes.is_file():  # the encoders are on another machine
        return PreprocessConfig().frames
    return PreprocessConfig.of(ImageBindConfig.from_json(sizes.read_bytes())).frames


class Cutter:
    """Cuts files into windows: at most `window_files` files at a time, of which one client may
    have half.
    """

    def __init__(self, settings: Settings, frames: int = 2) -> None:
        """`frames`: the number of frames of a video clip, as the encoder reads it."""
        self._settings = settings
        self._frames = frames
        self._running = FairShare(settings.window_files)

    async def cut(
        self,
        content: Blob,
        seconds: float,
        stride: float,
        modality: str = "audio",
        *,
        speech: bool = False,
    ) -> AsyncGenerator[Window, None]:
        """Yield windows of `seconds`, which start every `stride` seconds. Windows at the end of the
        file may be shorter.

        `modality`: audio or video. If it is audio, or if a video has no pictures, the sound of the
        video is cut. `speech`: whether to yield samples of speech (int16) instead of WAV files;
        `stride` is then `seconds`.

        Raises MediaError: when the file cannot be read or exceeds a limit.
        Raises Unavailable: when too many files of all clients or of this client are being cut.
        """
        if not self._running.take(caller := client()):
            raise Unavailable("too many files are being cut into windows", code="window_queue_full")
        try:
            process = await self._start(content, self._job(modality, seconds, stride, speech))
            try:
                async with contextlib.aclosing(self._windows(process, seconds)) as windows:
                    async for window in windows:
                        yield window
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.communicate()  # read the rest of the pipe, which otherwise stays open
        finally:
            self._running.give_back(caller)

    def _job(self, modality: str, seconds: float, stride: float, speech: bool) -> CutJob:
        settings, limits = self._settings, self._settings.limits
        return CutJob(
            modality=modality,
            seconds=seconds,
            stride=stride,
            max_seconds=settings.max_window_file_seconds,
            max_windows=settings.max_windows,
            max_channels=limits.audio_channels,
            max_rate=limits.audio_rate,
            max_samples=limits.audio_samples,
            frames=self._frames,
            max_pixels=limits.video_pixels,
            max_window_bytes=limits.video_bytes - HEADER_BYTES,
            memory_bytes=settings.decode_memory_bytes,
            cpu_s=settings.decode_timeout_s,
            speech=speech,
        )

    async def _start(self, content: Blob, job: CutJob) -> asyncio.subprocess.Process:
        descriptor = await content.descriptor()
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", CUTTER, str(os.getpid()), json.dumps(asdict(job))),
                stdin=descriptor,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                cwd="/",
                env=worker_environment(),
            )
        finally:
            os.close(descriptor)

    async def _windows(
        self, process: asyncio.subprocess.Process, seconds: float
    ) -> AsyncGenerator[Window, None]:
        limits = self._settings.limits
        samples = int(seconds * limits.audio_rate + 1) * limits.audio_channels
        samples = min(samples, limits.audio_samples)
        max_bytes = max(samples * BYTES_PER_SAMPLE + HEADER_BYTES, limits.video_bytes)
        assert process.stdout is not None
        while True:
            try:
                header, data = await read_frame(process.stdout, max_bytes)
            except (asyncio.IncompleteReadError, OSError, FrameError):
                raise MediaError(FAILED) from None
            if "error" in header:
                raise MediaError(str(header["error"])[:300])
            if not header:
                return
            start, end = float(header["start"]), float(header["end"])
            yield Window(start, end, MemoryBlob(data), str(header["modality"]))
