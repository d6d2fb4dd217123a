"""Embed many files, and write their embeddings to one file.

Rows are written to shards in a folder beside the output, so that the same command resumes a killed
run. Files that cannot be read or decoded are reported and skipped. The output appears when all
files are done.
"""

import asyncio
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from cache_index.errors import CacheError
from cache_index.folder import INPUTS, begin_or_resume, locked, write_whole
from cache_index.shards import ShardWriter
from model_ext.config import read_sections
from model_ext.device import choose_device
from model_ext.imagebind.dtype import choose_dtype
from server.cli.bulk.embedder import BulkEmbedder, BulkRequest, opened_embedder
from server.cli.bulk.inputs import count_and_fingerprint, items
from server.cli.bulk.output import check_output, write_output
from server.cli.bulk.place import BulkItem
from server.cli.bulk.rows import Failures, Rows, RowSink
from server.conditioning.open_cache import encoder_of
from server.settings import Settings

ROWS_PER_SHARD = 512  # maximum number of rows that a killed run loses

Embed = Callable[[BulkRequest, RowSink], None]


@dataclass(frozen=True, slots=True)
class Summary:
    files: int
    rows: int
    skipped: int


def run(request: BulkRequest, embed: Embed | None = None) -> Summary:
    """Embed all files. Write the output and the list of skipped files. Run again after a kill to
    resume.

    `embed`: the function that embeds the files; default: `embed_locally`.

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
            writer = ShardWriter.open(folder, rows_per_shard=ROWS_PER_SHARD)
            sink = RowSink(writer, Failures(skipped, writer.consumed, bar), bar)
            if sink.consumed < count:
                try:
                    (embed or embed_locally)(request, sink)
                finally:
                    sink.flush()
        rows = write_output(folder, request.out)
        failures = skipped.read_text() if skipped.exists() else ""
        write_skipped(request.out, failures)
        (folder / INPUTS).unlink()  # a run that is killed during the next line cannot resume
        shutil.rmtree(folder)
    return Summary(count, rows, len(failures.splitlines()))


def skipped_list(out: Path) -> Path:
    """Return the path of the list of skipped files, which is beside the output."""
    return out.with_name(f"{out.name}.skipped.txt")


def write_skipped(out: Path, lines: str) -> None:
    """Write the list of skipped files, or delete an older list if there are none. A run that was
    killed has printed only a part of the list.
    """
    path = skipped_list(out)
    if lines:
        write_whole(path, lambda draft: draft.write_text(lines))
    else:
        path.unlink(missing_ok=True)


def embeddings_of(settings: Settings) -> list[object]:
    """Return the values on which an embedding depends, in addition to the file. These values must
    not change when a run resumes.

    Raises ConfigError, OSError: when the model's config.json cannot be read.
    """
    dtype = choose_dtype(settings.encode_dtype, choose_device(settings.encode_device))
    encoder = encoder_of(read_sections(settings.model).provenance)
    return [str(settings.model), encoder, dtype, asdict(settings.read_options)]


def embed_locally(request: BulkRequest, sink: RowSink) -> None:
    asyncio.run(embed_all(request, sink))


async def embed_all(request: BulkRequest, sink: RowSink) -> None:
    async with opened_embedder(request) as embedder:
        await stream(items(request.inputs, sink.consumed), embedder, sink)


async def stream(files: Iterator[BulkItem], embedder: BulkEmbedder, sink: RowSink) -> None:
    """Embed at most `embedder.concurrent` files at a time."""
    pending: deque[tuple[BulkItem, asyncio.Task[Rows | str]]] = deque()

    async def finish_first() -> None:
        item, task = pending[0]
        result = await task
        pending.popleft()
        sink.add(item, result)

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
