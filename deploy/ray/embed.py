"""Embed many files on many machines with Ray Data, and write the same file as `bindserve embed`.

    python -m deploy.ray.embed MODEL INPUT... --out FILE [--workers 8] [--gpus 1]

Each worker has its own encoders and decoding processes, and embeds batches of files with the same
function as `bindserve embed`. All machines read the model and the inputs at the same paths. The
program writes the rows in the order of the files, and resumes a run that was interrupted.
"""

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from cache_index.captions import Caption
from cache_index.errors import CacheError
from server.cli.bulk.embedder import BulkEmbedder, BulkRequest, opened_embedder
from server.cli.bulk.inputs import TABLE, items
from server.cli.bulk.place import BulkItem, Place
from server.cli.bulk.rows import Rows, RowSink
from server.cli.bulk.run import run
from server.cli.embed import parse_windows
from server.cli.serve import load_settings

BATCH = 64  # number of files that a worker embeds at a time

Batch = dict[str, NDArray[Any]]


class EmbedWorker:
    """A Ray actor, which loads the encoders once and embeds batches of files."""

    def __init__(self, request: BulkRequest) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._opened = AsyncExitStack()
        self._embedder: BulkEmbedder = self._run(
            self._opened.enter_async_context(opened_embedder(request))
        )

    def __call__(self, batch: Batch) -> Batch:
        """`batch`: a column of files, as JSON. Returns a column of results, as JSON, and a column
        of embeddings, as bytes.
        """
        files = [unpack_item(text) for text in batch["file"]]
        results = self._run(self._embedder.embed_batch(files))
        packed = [pack_result(result) for result in results]
        return {
            "result": np.array([text for text, _ in packed], object),
            "embeddings": np.array([data for _, data in packed], object),
        }

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def pack_item(item: BulkItem) -> str:
    place, caption = item.place, item.caption
    return json.dumps(
        {
            "place": [str(place.path), place.name, place.offset, place.size],
            "caption": [caption.caption, caption.id],
        }
    )


def unpack_item(text: str) -> BulkItem:
    document = json.loads(text)
    path, *rest = document["place"]
    return BulkItem(Place(Path(path), *rest), Caption(*document["caption"]))


def pack_result(result: Rows | str) -> tuple[str, bytes]:
    """Return JSON with the captions of the rows, or with the error if the file has no rows; and the
    embeddings (N, D) as float32 bytes.
    """
    if isinstance(result, str):
        return json.dumps({"error": result}), b""
    captions = [[each.caption, each.id, each.fields] for _, each in result]
    vectors = np.stack([vector for vector, _ in result]).astype("<f4")
    return json.dumps({"captions": captions}), vectors.tobytes()


def unpack_result(text: str, data: bytes) -> Rows | str:
    document = json.loads(text)
    if "error" in document:
        return str(document["error"])
    captions = [Caption(*each) for each in document["captions"]]
    vectors = np.frombuffer(data, "<f4").reshape(len(captions), -1).astype(np.float32)
    return list(zip(vectors, captions, strict=True))


def embed_with_ray(request: BulkRequest, sink: RowSink, workers: int, gpus: float) -> None:
    """Embed the files that have no result yet, and pass the results to `sink` in the order of the
    files.
    """
    files = list(items(request.inputs, sink.consumed))
    for item, result in zip(files, results(request, files, workers, gpus), strict=True):
        sink.add(item, result)


def results(
    request: BulkRequest, files: list[BulkItem], workers: int, gpus: float
) -> Iterator[Rows | str]:
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    blocks = -(-len(files) // BATCH)
    dataset = ray.data.from_items(
        [{"file": pack_item(item)} for item in files], override_num_blocks=blocks
    ).map_batches(
        EmbedWorker,
        fn_constructor_args=(request,),
        batch_size=BATCH,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=gpus,
    )
    for row in dataset.iter_rows():
        yield unpack_result(row["result"], row["embeddings"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.ray.embed", description="Embed many files with Ray Data."
    )
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("inputs", type=Path, nargs="+", help="folders, lists, tar shards or files")
    parser.add_argument("--out", type=Path, required=True, help=".jsonl, .npy or .parquet file")
    parser.add_argument("--modality", help="modality of all files")
    parser.add_argument("--windows", metavar="SECONDS[:STRIDE]", help="as in bindserve embed")
    parser.add_argument("--workers", type=int, default=1, help="number of workers (default: 1)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker (default: 0)")
    options = parser.parse_args()
    if any(path.suffix == TABLE for path in options.inputs):
        parser.error("Parquet tables are not supported with Ray; use bindserve embed")
    request = BulkRequest(
        load_settings(model=options.model),
        tuple(options.inputs),
        options.out,
        options.modality,
        parse_windows(options.windows),
    )

    def embed(request: BulkRequest, sink: RowSink) -> None:
        embed_with_ray(request, sink, options.workers, options.gpus)

    try:
        summary = run(request, embed)
    except (CacheError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{options.out}: {summary.rows} rows, {summary.skipped} of {summary.files} files skipped")


if __name__ == "__main__":
    main()
