"""Embed many files with the components of the encoding service.

Decoding processes and the encoder work at the same time.

Rows are written to shards in a folder beside the output, so that a killed run resumes. Files that
cannot be read or decoded are reported and skipped. The output appears when all files are done.
"""

import asyncio
import json
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cache_index.captions import Caption
from cache_index.errors import CacheError
from cache_index.folder import begin_or_resume, locked
from cache_index.shards import ShardWriter
from model_ext.conditioning import Vector
from model_ext.config import read_sections
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.dtype import choose_dtype
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.sniff import sniff
from server.cli.bulk.inputs import count_and_fingerprint, items
from server.cli.bulk.output import check_output, write_output
from server.cli.bulk.place import BulkItem
from server.cli.cache.media_list import printable
from server.conditioning.open_cache import encoder_of
from server.encoding.components import EncodingComponents, choose_device
from server.encoding.in_order import in_order
from server.encoding.windows import Cutter, Window
from server.errors import BadRequest, RequestError, Unavailable
from server.media.blob import Blob, MemoryBlob
from server.media.embedded import Embedded
from server.media.encoders import check_encoder
from server.settings import Settings

ROWS_PER_SHARD = 512  # A killed run loses at most the work for this many rows.
WINDOWS = 16  # maximum number of windows of one file that are embedded at a time
FULL = ("decode_queue_full", "encode_queue_full")
AGAIN_S = 0.5  # seconds until a file is sent again after a full queue has rejected it

Rows = list[tuple[Vector, Caption]]


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


@dataclass(frozen=True, slots=True)
class Summary:
    files: int
    rows: int
    skipped: int


def run(request: BulkRequest) -> Summary:
    """Embed all files and write the output. Run again after a kill to resume.

    Raises CacheError, ConfigError, OSError.
    """
    count, fingerprint = count_and_fingerprint(request.inputs)
    if not count:
        raise CacheError("the inputs contain no files")
    check_output(request.out)
    folder = request.out.with_name(f".{request.out.name}.partial")
    folder.mkdir(parents=True, exist_ok=True)
    inputs = [request.modality, request.windows, fingerprint, *embeddings_of(request.settings)]
    with locked(folder):
        begin_or_resume(folder, json.dumps(inputs))
        skipped = folder / "skipped.txt"
        with tqdm(total=count, desc="embed", unit="file") as bar:
            asyncio.run(embed_all(request, folder, count, skipped, bar))
        rows = write_output(folder, request.out)
        failed = len(skipped.read_text().splitlines()) if skipped.exists() else 0
        shutil.rmtree(folder)
    return Summary(count, rows, failed)


def embeddings_of(settings: Settings) -> list[object]:
    """What the embedding of a file depends on, apart from the file: equal in a resumed run.

    Raises ConfigError, OSError: when the model's config.json cannot be read.
    """
    dtype = choose_dtype(settings.encode_dtype, choose_device(settings.encode_device))
    encoder = encoder_of(read_sections(settings.model).provenance)
    return [str(settings.model), encoder, dtype, asdict(settings.read_options)]


async def embed_all(
    request: BulkRequest, folder: Path, count: int, skipped: Path, bar: "tqdm[Any]"
) -> None:
    writer = ShardWriter.open(folder, rows_per_shard=ROWS_PER_SHARD)
    bar.update(writer.consumed)
    if writer.consumed == count:
        return
    failures = Failures(skipped, writer.consumed, bar)
    parts = await EncodingComponents.open(request.settings)
    try:
        config = PreprocessConfig.of(read_sections(request.settings.model).imagebind)
        embedder = BulkEmbedder(request, parts, config.frames)
        await stream(items(request.inputs, writer.consumed), embedder, writer, failures, bar)
    finally:
        writer.flush()
        await parts.close()


class Failures:
    """The list of skipped files, one line per file: number, path and reason, separated by tabs."""

    def __init__(self, path: Path, consumed: int, bar: "tqdm[Any]") -> None:
        """Drop the lines of files that the resumed run embeds again."""
        self._path, self._bar = path, bar
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if int(line.split("\t")[0]) < consumed]
        path.write_text("".join(kept))

    def add(self, number: int, item: BulkItem, reason: str) -> None:
        self._bar.write(f"skipped {printable(str(item.place))}: {reason}")
        with self._path.open("a") as file:
            file.write(f"{number}\t{str(item.place)!r}\t{reason!r}\n")


async def stream(
    files: Iterator[BulkItem],
    embedder: "BulkEmbedder",
    writer: ShardWriter,
    failures: Failures,
    bar: "tqdm[Any]",
) -> None:
    """Embed at most `embedder.concurrent` files at a time, and write rows in the files' order."""
    pending: deque[tuple[BulkItem, asyncio.Task[Rows | str]]] = deque()

    async def finish_first() -> None:
        item, task = pending[0]
        result = await task
        pending.popleft()
        if isinstance(result, str):
            failures.add(writer.consumed, item, result)
            writer.skip()
        else:
            writer.append_all(result)
        bar.update()

    try:
        for item in files:
            pending.append((item, asyncio.ensure_future(embedder.embed(item))))
            if len(pending) >= embedder.concurrent:
                await finish_first()
        while pending:
            await finish_first()
    finally:
        for _, task in pending:
            task.cancel()
        await asyncio.gather(*(task for _, task in pending), return_exceptions=True)


class BulkEmbedder:
    def __init__(self, request: BulkRequest, parts: EncodingComponents, frames: int = 2) -> None:
        """`frames`: the number of frames of a video clip, as the model's encoder reads it."""
        self._request, self._parts = request, parts
        settings = request.settings
        # Number of files in work: enough to keep all decoding processes and the encoder busy.
        self.concurrent = min(2 * settings.encode_batch, settings.decode_waiting)
        self._options = settings.read_options
        # A cutter rejects further files, so they wait here. One client gets half of the cutter's
        # places, and this command is one client.
        self._cutting = asyncio.Semaphore(settings.window_files)
        places = {"window_files": 2 * settings.window_files}
        self._cutter = Cutter(settings.model_copy(update=places), frames)

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
        sample = await self._parts.decoder.decode(modality, content, self._options)
        check_encoder(sample.modality, self._parts.modalities)
        encoder = ENCODER_OF[sample.modality]
        return Embedded(encoder, await self._parts.batcher.encode(encoder, sample.tensor)).unit
