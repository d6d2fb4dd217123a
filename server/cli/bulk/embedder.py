"""Embed the files of a bulk run with the components of the encoding service.

Decoding processes and the encoder work at the same time.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from model_ext.conditioning import Vector
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.preprocess.sniff import sniff
from server.cli.bulk.place import BulkItem
from server.cli.bulk.rows import Rows
from server.encoding.components import EncodingComponents
from server.encoding.decode.pool import DecodeTimeout
from server.encoding.in_order import in_order
from server.encoding.windows import Cutter, Window, video_frames
from server.errors import BadRequest, RequestError, Unavailable
from server.media.blob import Blob, MemoryBlob
from server.media.embedded import Embedded
from server.media.encoders import check_encoder
from server.settings import Settings

WINDOWS = 16  # maximum number of windows of one file that are embedded at a time
FULL = ("decode_queue_full", "encode_queue_full")
AGAIN_S = 0.5  # seconds until a file is sent again after a full queue has rejected it


@dataclass(frozen=True, slots=True)
class BulkRequest:
    settings: Settings
    inputs: tuple[Path, ...]
    out: Path
    # The modality of all files. None: each file's content determines its modality.
    modality: str | None = None

    # Length and stride of the windows of sounds and videos, in seconds; None: one embedding per
    # file.
    windows: tuple[float, float] | None = None


@asynccontextmanager
async def opened_embedder(request: BulkRequest) -> AsyncIterator["BulkEmbedder"]:
    """Load the encoders and start the decoding processes. Raises ConfigError, OSError."""
    # Without the setting `decoder`, the encoders do not compute the vectors that only a decoder
    # needs.
    parts = await EncodingComponents.open(request.settings.model_copy(update={"decoder": None}))
    try:
        yield BulkEmbedder(request, parts, video_frames(request.settings.model))
    finally:
        await parts.close()


class BulkEmbedder:
    def __init__(self, request: BulkRequest, parts: EncodingComponents, frames: int = 2) -> None:
        """`frames`: the number of frames of a video clip, as the model's encoder reads it."""
        self._request, self._parts = request, parts
        settings = request.settings
        # Number of files that are embedded at the same time: enough to keep all decoding processes
        # and the encoder busy.
        self.concurrent = min(2 * settings.encode_batch, settings.decode_waiting)
        self._options = settings.read_options
        # Further files wait for this semaphore, because the cutter would reject them. The cutter
        # gets twice as many places, because one client (here, this command) may use half of them.
        self._cutting = asyncio.Semaphore(settings.window_files)
        places = {"window_files": 2 * settings.window_files}
        self._cutter = Cutter(settings.model_copy(update=places), frames)

    async def embed_batch(self, batch: Sequence[BulkItem]) -> list[Rows | str]:
        """Embed some files concurrently. Returns the results of `embed`, in order."""
        return await asyncio.gather(*(self.embed(item) for item in batch))

    async def embed(self, item: BulkItem) -> Rows | str:
        """Return the rows of one file, or the reason why the file has none.

        Raises Unavailable: when the decoder or the encoder fails for a reason other than the file.
        """
        try:
            return await self._embed(item)
        except Unavailable as error:
            if error.code != "file_unreadable":
                raise
            return "the file cannot be read"
        except RequestError as error:
            return error.message
        except OSError as error:
            return error.strerror or type(error).__name__

    async def _embed(self, item: BulkItem) -> Rows:
        settings, windows = self._request.settings, self._request.windows
        modality, place = self._request.modality, item.place
        modality = modality or sniff(await asyncio.to_thread(place.head), str(place))
        if windows is not None and modality in ("audio", "video"):
            return await self._windows(modality, item, *windows)
        content = MemoryBlob(await asyncio.to_thread(place.read, settings.max_file_bytes))
        if modality is None:
            raise BadRequest("unknown file format; add --modality")
        if modality != "video":  # a file of a video format may have only sound
            check_encoder(modality, self._parts.modalities)
        if content.size > (maximum := settings.limits.bytes_of(modality)):
            raise BadRequest(f"the file has more than {maximum} bytes")
        return [(await self._unit(modality, content), item.with_fields(modality=modality))]

    async def _windows(self, modality: str, item: BulkItem, seconds: float, stride: float) -> Rows:
        """Return a row for each window of a file. The windows are embedded concurrently."""
        if modality != "video":  # a file of a video format may have only sound
            check_encoder(modality, self._parts.modalities)
        max_bytes = self._request.settings.max_window_file_bytes

        async def embed(window: Window) -> Vector:
            return await self._unit(window.modality, window.content)

        rows: Rows = []
        async with self._cutting:
            content = await asyncio.to_thread(item.place.blob, max_bytes)
            windows = self._cutter.cut(content, seconds, stride, modality)
            async with aclosing(in_order(windows, embed, WINDOWS)) as embedded:
                async for window, vector in embedded:
                    times = {"start": window.start, "end": window.end}
                    rows.append((vector, item.with_fields(modality=window.modality, **times)))
        return rows

    async def _unit(self, modality: str, content: Blob) -> Vector:
        """Embed one file: a unit embedding (D,). Waits as long as the queues are full."""
        while True:
            try:
                return await self._try_unit(modality, content)
            except Unavailable as error:
                if error.code not in FULL:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _try_unit(self, modality: str, content: Blob) -> Vector:
        try:
            sample = await self._parts.decoder.decode(modality, content, self._options)
        except DecodeTimeout:  # try once more, because this command may have been stopped (Ctrl-Z)
            sample = await self._parts.decoder.decode(modality, content, self._options)
        check_encoder(sample.modality, self._parts.modalities)
        encoder = ENCODER_OF[sample.modality]
        return Embedded(encoder, await self._parts.batcher.encode(encoder, sample.tensor)).unit
