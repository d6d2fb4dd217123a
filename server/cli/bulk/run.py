"""Embed many files with the components of the encoding service.

Decoding processes and the encoder work at the same time.

Rows are written to shards in a folder beside the output, so that the same command resumes a killed
run. Files that cannot be read or decoded are reported and skipped. The output appears when all
files are done.
"""

import asyncio
import json
import os
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cache_index.captions import Caption, Fields
from cache_index.errors import CacheError
from cache_index.folder import begin_or_resume, locked
from cache_index.shards import ShardWriter
from model_ext.conditioning import Vector
from model_ext.config import read_sections
from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.dtype import choose_dtype
from model_ext.imagebind.preprocess.sniff import sniff
from server.cli.bulk.inputs import count_and_fingerprint, items
from server.cli.bulk.output import check_output, write_output
from server.cli.cache.media_features import read_at_most
from server.cli.cache.media_list import MediaItem, printable
from server.conditioning.open_cache import encoder_of
from server.encoding.components import EncodingComponents, choose_device
from server.encoding.in_order import in_order
from server.encoding.windows import Cutter, Window
from server.errors import BadRequest, RequestError, Unavailable
from server.media.blob import Blob, DiskBlob, MemoryBlob
from server.media.embedded import Embedded
from server.media.encoders import check_encoder
from server.settings import Settings

ROWS_PER_SHARD = 512  # A killed run loses at most the work for this many rows.
WINDOWS = 16  # Maximum number of windows of one sound that are embedded at a time.
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

    # Length and stride of the windows of sounds, in seconds; None: one embedding per file.
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
    """Return everything except the file that determines a file's embedding.

    It must not change when a run resumes.

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
        embedder = BulkEmbedder(request, parts)
        await stream(items(request.inputs, writer.consumed), embedder, writer, failures, bar)
    finally:
        writer.flush()
        await parts.close()


class Failures:
    """Writes the list of skipped files. A line has a file's number, path and reason, separated by
    tabs.
    """

    def __init__(self, path: Path, consumed: int, bar: "tqdm[Any]") -> None:
        """Drop the lines of files that the resumed run embeds again."""
        self._path, self._bar = path, bar
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if int(line.split("\t")[0]) < consumed]
        path.write_text("".join(kept))

    def add(self, number: int, item: MediaItem, reason: str) -> None:
        self._bar.write(f"skipped {printable(item.place)}: {reason}")
        with self._path.open("a") as file:
            file.write(f"{number}\t{str(item.place)!r}\t{reason!r}\n")


async def stream(
    files: Iterator[MediaItem],
    embedder: "BulkEmbedder",
    writer: ShardWriter,
    failures: Failures,
    bar: "tqdm[Any]",
) -> None:
    """Embed at most `embedder.concurrent` files at a time, and write rows in the files' order."""
    pending: deque[tuple[MediaItem, asyncio.Task[Rows | str]]] = deque()

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
    def __init__(self, request: BulkRequest, parts: EncodingComponents) -> None:
        self._request, self._parts = request, parts
        settings = request.settings
        # Number of files in work: enough to keep all decoding processes and the encoder busy.
        self.concurrent = min(2 * settings.encode_batch, settings.decode_waiting)
        self._options = settings.read_options
        # Limits concurrent sounds, because the cutter rejects excess sounds. One client, such as
        # this command, gets half of the cutter's places.
        self._cutting = asyncio.Semaphore(settings.window_files)
        places = {"window_files": 2 * settings.window_files}
        self._cutter = Cutter(settings.model_copy(update=places))

    async def embed(self, item: MediaItem) -> Rows | str:
        """Return the rows of one file, or the reason why the file has none.

        Raises Unavailable: when the decoder or the encoder fails for a reason other than the file.
        """
        assert isinstance(item.place, Path)
        try:
            return await self._embed(item.place, item.caption)
        except Unavailable as error:
            if error.code != "file_unreadable":
                raise
            return "the file cannot be read"
        except RequestError as error:
            return error.message
        except OSError as error:
            return error.strerror or type(error).__name__

    async def _embed(self, path: Path, caption: Caption) -> Rows:
        settings, windows = self._request.settings, self._request.windows
        modality = self._request.modality
        if windows is not None:
            file = await asyncio.to_thread(open_file, path)
            modality = modality or sniff(file.head(), path.name)
            if modality == "audio":
                return await self._windows(file, caption, *windows)
        content = MemoryBlob(await asyncio.to_thread(read_at_most, path, settings.max_file_bytes))
        modality = modality or sniff(content.head(), path.name)
        if modality is None:
            raise BadRequest("unknown file format; add --modality")
        if modality != "video":  # a file with a video format may contain only sound
            check_encoder(modality, self._parts.modalities)
        if content.size > (maximum := settings.limits.bytes_of(modality)):
            raise BadRequest(f"the file has more than {maximum} bytes")
        fields: Fields = {**caption.fields, "modality": modality}
        return [(await self._unit(modality, content), replace(caption, fields=fields))]

    async def _windows(
        self, content: Blob, caption: Caption, seconds: float, stride: float
    ) -> Rows:
        """Return a row for each window of a sound. The windows are embedded concurrently."""
        check_encoder("audio", self._parts.modalities)
        if content.size > (maximum := self._request.settings.max_window_file_bytes):
            raise BadRequest(f"the file has more than {maximum} bytes")

        async def embed(window: Window) -> Vector:
            return await self._unit("audio", window.content)

        rows: Rows = []
        async with self._cutting:
            windows = self._cutter.cut(content, seconds, stride)
            async with aclosing(in_order(windows, embed, WINDOWS)) as embedded:
                async for window, vector in embedded:
                    times: Fields = {"modality": "audio", "start": window.start, "end": window.end}
                    rows.append((vector, replace(caption, fields={**caption.fields, **times})))
        return rows

    async def _unit(self, modality: str, content: Blob) -> Vector:
        """Embed one file. Returns its embedding (D,) with length 1. Waits while the queues are
        full.
        """
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


def open_file(path: Path) -> DiskBlob:
    """Open a file without reading it. The result has no SHA-256, because cutting a sound does not
    need it.
    """
    with path.open("rb") as file:
        return DiskBlob(os.dup(file.fileno()), os.fstat(file.fileno()).st_size, b"")
