"""Embed media files, and write the embeddings to files (shards). An interrupted run can be resumed.

This module uses the decoding processes and the batcher of the server. Therefore, a file that
crashes its decoder is skipped like any damaged file, and the embeddings equal those of requests.
"""

import asyncio
import contextlib
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cache_index.features import open_features
from cache_index.shards import ShardWriter
from model_ext.conditioning import Vector
from model_ext.device import choose_device
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.dtype import choose_dtype
from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.imagebind.preprocess.sniff import sniff
from model_ext.imagebind.subset import load_encoders
from server.cli.cache.media_list import MediaItem, MediaList, printable
from server.encoding.batcher import Batcher
from server.encoding.components import ENCODERS, decode_settings, open_batcher
from server.encoding.decode.pool import DecodePool
from server.errors import RequestError, TooLarge, Unavailable
from server.media.blob import Blob, MemoryBlob
from server.media.embedded import Embedded
from server.media.fetch import Fetcher, FetchPolicy
from server.media.sources import Link
from server.settings import Settings

ROWS_PER_SHARD = 1024  # number of rows per file; a killed process loses at most this many rows


async def encode_media(
    media: MediaList, modality: str, settings: Settings, folder: Path, bar: "tqdm[Any]"
) -> int:
    """Embed media, and write the features and captions to `folder`. Resumes an interrupted run.

    Skips files that cannot be read or decoded, and prints their names. Returns the number of rows.
    """
    writer = ShardWriter.open(folder, rows_per_shard=ROWS_PER_SHARD)
    bar.update(writer.consumed)
    if writer.consumed < media.count:
        async with opened(settings, modality) as embedder:
            try:
                await stream(media.items(writer.consumed), embedder, writer, bar)
            finally:
                writer.flush()
    return open_features(folder).count if any(folder.glob("*.npy")) else 0


async def stream(
    items: Iterator[MediaItem], embedder: "MediaEmbedder", writer: ShardWriter, bar: "tqdm[Any]"
) -> None:
    """Embed the items in order; `embedder.window` items run concurrently."""
    pending = deque[tuple[MediaItem, asyncio.Task[Vector | str | None]]]()
    try:
        for item in items:
            pending.append((item, asyncio.ensure_future(embedder.embed(item))))
            if len(pending) == embedder.window:
                write(*(await next_result(pending)), writer, bar)
        while pending:
            write(*(await next_result(pending)), writer, bar)
    finally:
        for _, task in pending:
            task.cancel()
        await asyncio.gather(*(task for _, task in pending), return_exceptions=True)


async def next_result(
    pending: deque[tuple[MediaItem, asyncio.Task[Vector | str | None]]],
) -> tuple[MediaItem, Vector | str | None]:
    item, task = pending[0]
    result = await task
    pending.popleft()
    return item, result


def write(
    item: MediaItem, result: Vector | str | None, writer: ShardWriter, bar: "tqdm[Any]"
) -> None:
    """Append the row of one item, or skip the item. `result`: the embedding (D,), or else an error
    message, or None for a file of another modality.
    """
    if result is None or isinstance(result, str):
        writer.skip()
        if result is not None:
            bar.write(f"skipped {printable(item.place)}: {result}")
    else:
        writer.append(result, item.caption)
    bar.update()


@dataclass(frozen=True, slots=True)
class MediaEmbedder:
    modality: str
    decoder: DecodePool
    batcher: Batcher
    fetcher: Fetcher
    max_bytes: int
    options: ReadOptions
    window: int  # maximum number of files that are embedded concurrently

    async def embed(self, item: MediaItem) -> Vector | str | None:
        """Return the embedding (D,), an error message, or None for a file of another modality.

        Raises Unavailable: when the decoder or the encoder fails for a reason other than the file.
        """
        try:
            content = await self._read(item)
            if not self._has_modality(content, str(item.place)):
                return None if isinstance(item.place, Path) else f"not of modality {self.modality}"
            sample = await self.decoder.decode(self.modality, content, self.options)
            if sample.modality != self.modality:
                return f"not of modality {self.modality}"
            encoder = ENCODER_OF[self.modality]
            return Embedded(encoder, await self.batcher.encode(encoder, sample.tensor)).unit
        except Unavailable:
            raise
        except RequestError as error:
            return error.message
        except OSError as error:
            return error.strerror or type(error).__name__

    async def _read(self, item: MediaItem) -> Blob:
        if isinstance(item.place, str):
            return await self.fetcher.fetch(Link(item.place, self.max_bytes))
        return MemoryBlob(await asyncio.to_thread(read_at_most, item.place, self.max_bytes))

    def _has_modality(self, content: Blob, name: str) -> bool:
        """Whether the file has the chosen modality.

        Always true for depth, thermal and imu, because the content of a file does not identify
        these modalities.
        """
        modality = sniff(content.head(), name)
        return modality == self.modality or self.modality in ("depth", "thermal", "imu")


def read_at_most(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"the file has more than {limit} bytes")
    return data


@asynccontextmanager
async def opened(settings: Settings, modality: str) -> AsyncIterator[MediaEmbedder]:
    """Open the encoder of a modality, decoding processes and a fetcher."""
    folder = settings.model / ENCODERS
    device = choose_device(settings.encode_device)
    model = load_encoders(folder, [ENCODER_OF[modality]], device)
    decoder = DecodePool(decode_settings(settings), (folder / "config.json").read_bytes())
    async with contextlib.AsyncExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bindserve-fetch-"))
        await decoder.start()
        stack.push_async_callback(decoder.close)
        batcher = open_batcher(model, settings, device, choose_dtype(settings.encode_dtype, device))
        stack.callback(batcher.close)
        policy = FetchPolicy(timeout_s=settings.fetch_timeout_s, waiting=settings.fetch_waiting)
        yield MediaEmbedder(
            modality,
            decoder,
            batcher,
            Fetcher(Path(scratch), policy),
            settings.limits.bytes_of(modality),
            settings.read_options,
            min(2 * settings.encode_batch, settings.decode_waiting, settings.fetch_waiting),
        )
