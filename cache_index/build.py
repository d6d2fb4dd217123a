"""Build a cache folder from features, or from an existing FAISS index.

A build first writes the vectors to disk, and then trains and fills the index from this file, so
that the index is built from exactly the vectors that a search will read. The same command resumes a
killed build. This module does not depend on encoders: other modules turn media into features.
"""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from tqdm import tqdm

from cache_index.captions import Caption, read_captions, write_captions
from cache_index.enhance import Array, CacheParams, normalize
from cache_index.errors import CacheError
from cache_index.features import (
    BLOCK_ROWS,
    Features,
    IndexFeatures,
    checked,
    draw,
    open_features,
)
from cache_index.folder import check_free, new_folder, write_once
from cache_index.kinds import Target, check_kind, choose_kind
from cache_index.manifest import (
    CAPTIONS,
    INDEX,
    OFFSETS,
    VECTORS,
    EncoderIdentity,
    FileName,
    Manifest,
    Recall,
    SearchSettings,
    describe_file,
    write_manifest,
)
from cache_index.reader import read_index
from cache_index.recall import TOP_K, make_trial
from cache_index.searcher import Searcher
from cache_index.tune import tune
from cache_index.vectors import Vectors

Dtype = Literal["float32", "float16"]

TRAINED = "trained.faiss"
TRAIN_ROWS_PER_CELL = 64  # Number of training rows for each cell. FAISS recommends 39 to 256.
PQ_CODES = 256  # Number of codes of each part of a product quantizer.
TUNING_QUERIES = 1000  # Number of queries for tuning, and of queries to measure the recall.
SEED = 1

PAGE = 4096


def build_from_features(
    features: Path | Features,
    out: Path,
    *,
    captions: Path | None = None,
    kind: str = "auto",
    target: Target = "cpu",
    memory: int | None = None,
    dtype: Dtype = "float32",
    normalized: bool = True,
    queries: Path | None = None,
    recall: float = 0.98,
    encoder: EncoderIdentity | None = None,
    defaults: CacheParams | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Build from an .npy or .safetensors file (N, D), a folder of them, or other `Features`.

    `captions`: a text file with one caption per line, or a .jsonl file. Default: the .jsonl file
    beside each feature file. `kind`: FAISS's factory string, or "auto": a kind that suits the
    `target` (and its `memory`, in bytes). `normalized`: whether to scale each row to length 1, so
    that the inner product is the cosine similarity. `queries`: features (M, D). One half tunes the
    search, the other half measures recall@10. Default: rows of the cache. Set `queries` if requests
    come from another modality. `recall`: the recall that the tuned settings must reach. `encoder`:
    identifies the encoder of the features. A server rejects a cache from another encoder.
    """
    check_free(out, overwrite=overwrite)
    source = open_features(features) if isinstance(features, Path) else features
    if kind == "auto":
        kind = choose_kind(source.count, source.dimension, target=target, memory=memory)
    check_kind(kind, source.dimension, target=target)
    inputs = describe_inputs(source.path, source, kind, dtype, normalized)
    with new_folder(out, inputs=inputs, overwrite=overwrite) as folder:
        with bar(source.count, "vectors", progress) as done:
            write_once(
                folder / VECTORS, lambda path: write_vectors(path, source, dtype, normalized, done)
            )
        rows = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        with bar(source.count, kind, progress) as done:
            write_once(folder / INDEX, lambda path: write_index(path, rows, kind, done))
        (folder / TRAINED).unlink(missing_ok=True)
        settings, reached = tune_index(folder / INDEX, rows, queries, recall)
        lines = read_captions(captions) if captions else source.captions()
        write_lines(folder, lines, source.count, captions or source.path)
        return finish(
            folder,
            Manifest(
                count=source.count,
                dimension=source.dimension,
                kind=kind,
                vector_dtype=dtype,
                search=settings,
                recall=reached,
                encoder=dict(encoder or {}),
                defaults=defaults or CacheParams(),
                files={},
            ),
            progress,
        )


def import_index(
    index: Path,
    out: Path,
    *,
    captions: Path | None = None,
    dtype: Dtype = "float32",
    encoder: EncoderIdentity | None = None,
    defaults: CacheParams | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Build from a FAISS index with inner product (a released knn.index), which is copied
    unchanged. The vectors are read from the index once and stored. The cache keeps the index's
    nprobe (the number of cells that a search visits).
    """
    check_free(out, overwrite=overwrite)
    held = read_index(index)
    source = IndexFeatures(index, held)
    if source.count == 0:
        raise CacheError(f"{index}: holds no vector")
    kind = kind_of(held)
    inputs = describe_inputs(index, source, kind, dtype, False)
    with new_folder(out, inputs=inputs, overwrite=overwrite) as folder:
        with bar(source.count, "vectors", progress) as done:
            write_once(
                folder / VECTORS, lambda path: write_vectors(path, source, dtype, False, done)
            )
        write_once(folder / INDEX, lambda path: shutil.copyfile(index, path))
        lines = read_captions(captions) if captions else None
        write_lines(folder, lines, source.count, captions or index)
        return finish(
            folder,
            Manifest(
                count=source.count,
                dimension=source.dimension,
                kind=kind,
                vector_dtype=dtype,
                search=SearchSettings(nprobe=getattr(held, "nprobe", None)),
                encoder=dict(encoder or {}),
                defaults=defaults or CacheParams(),
                files={},
            ),
            progress,
        )


def finish(folder: Path, draft: Manifest, progress: bool) -> Manifest:
    """Write the manifest with every file's size and sha256; the files must be complete."""
    every: tuple[FileName, ...] = (INDEX, VECTORS, CAPTIONS, OFFSETS)
    names = [name for name in every if (folder / name).exists()]
    size = sum((folder / name).stat().st_size for name in names)
    with bar(size, "sha256", progress, unit="B") as done:
        files = {name: describe_file(folder / name, done.update) for name in names}
    manifest = draft.model_copy(update={"files": files})
    write_manifest(folder, manifest)
    return manifest


def write_trained(path: Path, rows: Array, kind: str) -> None:
    """Write an empty index whose cells and codes are trained on a random sample of the rows."""
    index: Any = faiss.index_factory(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    if not index.is_trained:
        if hasattr(index, "do_polysemous_training"):
            # skip this slow training of a filter that the search does not use
            index.do_polysemous_training = False
        sample = np.random.default_rng(SEED).permutation(len(rows))
        number = TRAIN_ROWS_PER_CELL * max(index.nlist, PQ_CODES)
        chosen = np.sort(sample[:number])  # in ascending order, to read the file sequentially
        index.train(rows[chosen].astype(np.float32))
    faiss.write_index(index, str(path))


def write_index(path: Path, rows: Array, kind: str, done: "tqdm[Any]") -> None:
    trained = path.with_name(TRAINED)
    write_once(trained, lambda path: write_trained(path, rows, kind))
    index = read_index(trained)
    add_blocks(index, rows, done)
    faiss.write_index(index, str(path))


def add_blocks(index: Any, rows: Array, done: "tqdm[Any]") -> None:
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS].astype(np.float32)
        index.add(block)
        done.update(len(block))


def tune_index(
    path: Path, rows: Array, queries: Path | None, target: float
) -> tuple[SearchSettings, Recall | None]:
    """Choose search settings on half of the queries and measure their recall on the other half.
    Without `queries`, rows of the cache are the queries; a row does not count as its own neighbor.
    An exact search has no settings.
    """
    index = read_index(path, mapped=True)
    if not isinstance(index, faiss.IndexIVF):
        return SearchSettings(), None
    top_k = min(TOP_K, len(rows) - 1)
    own, sample_queries = None, None
    if queries is None:
        own = np.random.default_rng(SEED).permutation(len(rows))[: 2 * TUNING_QUERIES]
        sample_queries = rows[own].astype(np.float32)
    else:
        sample_queries = normalize(draw(open_features(queries), 2 * TUNING_QUERIES, SEED))
    if len(sample_queries) < 2 or sample_queries.shape[1] != rows.shape[1]:
        raise CacheError(f"{queries}: must contain at least 2 rows of {rows.shape[1]} numbers")
    half = len(sample_queries) // 2
    seen, unseen = (
        make_trial(rows, sample_queries[part], None if own is None else own[part], top_k)
        for part in (slice(half), slice(half, None))
    )
    searcher = Searcher(index, Vectors(rows))
    point, _ = tune(searcher, seen, target)
    searcher.apply(point.settings)
    value = float(unseen.recall(searcher).mean())
    return point.settings, Recall(at=top_k, value=value, queries=len(unseen.queries))


def write_lines(folder: Path, captions: Iterator[Caption] | None, count: int, source: Path) -> None:
    if captions is not None:
        write_captions(folder, captions, count, source)


def write_vectors(
    path: Path, source: Features, dtype: Dtype, normalized: bool, done: "tqdm[Any]"
) -> None:
    """Write the vectors as one .npy file.

    Does not memory-map the file, because pages that are not yet on disk would count as memory of
    this process.
    """
    with path.open("wb") as file:
        file.write(npy_header((source.count, source.dimension), np.dtype(dtype)))
        for block in checked(source):
            rows = normalize(block) if normalized else block
            if np.abs(rows).max() > np.finfo(dtype).max:
                raise CacheError(f"{source.path}: some values do not fit {dtype}; use float32")
            file.write(rows.astype(dtype).tobytes())
            done.update(len(rows))


def npy_header(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> bytes:
    """Write a header of one page (4 KiB), so that no row of 1024 float16 numbers crosses a page
    border.
    """
    header = io.BytesIO()
    fields = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)  # type: ignore[no-untyped-call]
    version, text = header.getvalue()[:8], header.getvalue()[10:].strip()
    text = text.ljust(PAGE - 11) + b"\n"
    return version + len(text).to_bytes(2, "little") + text


def describe_inputs(path: Path, source: Features, kind: str, dtype: Dtype, normalized: bool) -> str:
    """Describe the inputs as text.

    A build resumes an interrupted build only if the texts of both builds are equal.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    shape = (source.count, source.dimension)
    return json.dumps([str(path.resolve()), stamps, shape, kind, dtype, normalized])


def kind_of(index: Any) -> str:
    """Describe an imported index by FAISS's factory string."""
    if isinstance(index, faiss.IndexIVFPQ):
        return f"IVF{index.nlist},PQ{index.pq.M}"
    if isinstance(index, faiss.IndexIVFPQFastScan):
        return f"IVF{index.nlist},PQ{index.pq.M}x4fs"
    if isinstance(index, faiss.IndexIVFScalarQuantizer):
        half = index.sq.qtype == faiss.ScalarQuantizer.QT_fp16
        return f"IVF{index.nlist},{'SQfp16' if half else 'SQ8'}"
    return f"IVF{index.nlist},Flat" if isinstance(index, faiss.IndexIVF) else "Flat"


def bar(total: int, title: str, progress: bool, unit: str = "row") -> "tqdm[Any]":
    return tqdm(total=total, desc=title, unit=unit, unit_scale=True, disable=not progress)
