"""Media to features: decoded and encoded as the server does, streamed to disk, resumable.

The same killable decoding processes and the same batched encoder as in serving, so one bad file
costs itself and the vectors are those that requests would get.
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
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.preprocess.sniff import sniff
from model_ext.imagebind.subset import load_encoders
from server.cli.cache.media_list import MediaItem, MediaList
from server.encoding.batcher import Encoder
from server.encoding.components import ENCODERS, choose_device, decode_settings
from server.encoding.decode.pool import DecodePool
from server.errors import RequestError, TooLarge, Unavailable
from server.media.blob import Blob, MemoryBlob
from server.media.fetch import Fetcher, FetchPolicy
from server.media.sources import Link
from server.settings import Settings

ROWS_PER_SHARD = 1024  # what a kill costs at most


async def encode_media(
    media: MediaList, modality: str, settings: Settings, folder: Path, bar: "tqdm[Any]"
) -> int:
    """Features and captions as shards in `folder`, from where an earlier run was stopped.

    Returns the number of rows; files that cannot be read or decoded are told and left out.
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
    items: Iterator[MediaItem], embedder: "Embedder", writer: ShardWriter, bar: "tqdm[Any]"
) -> None:
    """In order, with as many files under way as fill the encoder's batches."""
    under_way = deque[tuple[MediaItem, asyncio.Task[Vector | str | None]]]()
    try:
        for item in items:
            under_way.append((item, asyncio.ensure_future(embedder.embed(item))))
            if len(under_way) == embedder.window:
                write(*(await first(under_way)), writer, bar)
        while under_way:
            write(*(await first(under_way)), writer, bar)
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


async def first(
    under_way: deque[tuple[MediaItem, asyncio.Task[Vector | str | None]]],
) -> tuple[MediaItem, Vector | str | None]:
    item, task = under_way[0]
    found = await task
    under_way.popleft()
    return item, found


def write(
    item: MediaItem, found: Vector | str | None, writer: ShardWriter, bar: "tqdm[Any]"
) -> None:
    """`found`: the embedding (D,), why there is none, or None for a file of another kind."""
    if found is None or isinstance(found, str):
        writer.skip()
        if found is not None:
            bar.write(f"left out: {item.place}: {found}")
    else:
        writer.append(found, item.caption)
    bar.update()


@dataclass(frozen=True, slots=True)
class Embedder:
    modality: str
    decoder: DecodePool
    encoder: Encoder
    fetcher: Fetcher
    max_bytes: int
    window: int  # files under way

    async def embed(self, item: MediaItem) -> Vector | str | None:
        """(D,), or why there is none. Unavailable: our own fault, not the file's."""
        try:
            content = await self._read(item)
            if not self._is_wanted(content, str(item.place)):
                return None if isinstance(item.place, Path) else f"no {self.modality}"
            tensor = await self.decoder.decode(self.modality, content)
            return await self.encoder.encode(ENCODER_OF[self.modality], tensor)
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

    def _is_wanted(self, content: Blob, name: str) -> bool:
        """Depth, thermal and imu look like other files: the operator has said what they are."""
        kind = sniff(content.head(), name)
        return kind == self.modality or self.modality in ("depth", "thermal", "imu")


def read_at_most(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise TooLarge(f"larger than {limit} bytes")
    return data


@asynccontextmanager
async def opened(settings: Settings, modality: str) -> AsyncIterator[Embedder]:
    """The model's encoder of this modality, and processes to decode in."""
    folder = settings.model / ENCODERS
    device = choose_device(settings.encode_device)
    model = load_encoders(folder, [ENCODER_OF[modality]], device)
    decoder = DecodePool(decode_settings(settings), (folder / "config.json").read_bytes())
    async with contextlib.AsyncExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bindserve-fetch-"))
        await decoder.start()
        stack.push_async_callback(decoder.close)
        encoder = Encoder(
            model, device=device, max_batch=settings.encode_batch, threads=settings.encode_threads
        )
        stack.callback(encoder.close)
        policy = FetchPolicy(timeout_s=settings.fetch_timeout_s, waiting=settings.fetch_waiting)
        yield Embedder(
            modality,
            decoder,
            encoder,
            Fetcher(Path(scratch), policy),
            settings.limits.bytes_of(modality),
            min(2 * settings.encode_batch, settings.decode_waiting, settings.fetch_waiting),
        )
