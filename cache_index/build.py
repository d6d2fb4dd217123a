"""Build a cache folder: from features, or from a FAISS index that exists already.

The vectors are streamed to disk first; the index is then trained on and filled from that file, so
that it ranks exactly the vectors that will be gathered. Knows no encoder: media become features
elsewhere.
"""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from tqdm import tqdm

from cache_index.captions import read_captions, write_captions
from cache_index.enhance import Array, CacheParams, normalize
from cache_index.errors import CacheError
from cache_index.features import BLOCK_ROWS, Features, IndexFeatures, NpyFeatures
from cache_index.folder import check_free, new_folder
from cache_index.kinds import choose_kind
from cache_index.manifest import (
    CAPTIONS,
    INDEX,
    OFFSETS,
    VECTORS,
    Encoder,
    FileName,
    Manifest,
    SearchSettings,
    describe_file,
    write_manifest,
)
from cache_index.reader import read_index

Dtype = Literal["float32", "float16"]

TRAIN_ROWS_PER_CELL = 64  # FAISS asks for 39 to 256
SEED = 1


def build_from_features(
    features: Path,
    out: Path,
    *,
    captions: Path | None = None,
    kind: str = "auto",
    dtype: Dtype = "float32",
    normalized: bool = True,
    encoder: Encoder | None = None,
    defaults: CacheParams | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """From an .npy file (N, D). `kind` is FAISS's factory string, or "auto" to choose by size.

    `normalized` brings each row to unit length, so that inner product is cosine similarity.
    `encoder` says where the features come from; a server refuses a cache of another encoder.
    """
    check_free(out, overwrite=overwrite)
    source = NpyFeatures.open(features)
    kind = choose_kind(source.count) if kind == "auto" else kind
    with new_folder(out, overwrite=overwrite) as folder:
        with bar(source.count, "vectors", progress) as done:
            write_vectors(folder / VECTORS, source, dtype, normalized, done)
        rows = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        index = make_index(source.dimension, kind)
        train(index, rows)
        with bar(source.count, "index", progress) as done:
            for start in range(0, len(rows), BLOCK_ROWS):
                index.add(np.asarray(rows[start : start + BLOCK_ROWS], dtype=np.float32))
                done.update(min(BLOCK_ROWS, len(rows) - start))
        search = default_search(index)
        faiss.write_index(index, str(folder / INDEX))
        return finish(folder, source, kind, dtype, search, captions, encoder, defaults, progress)


def import_index(
    index: Path,
    out: Path,
    *,
    captions: Path | None = None,
    dtype: Dtype = "float32",
    encoder: Encoder | None = None,
    defaults: CacheParams | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """From a FAISS index with inner product (a released knn.index), which is kept as it is.

    Its vectors are reconstructed once, here; its nprobe becomes the cache's.
    """
    check_free(out, overwrite=overwrite)
    searcher = read_index(index)
    source = IndexFeatures(index, searcher)
    if source.count == 0:
        raise CacheError(f"{index}: holds no vector")
    with new_folder(out, overwrite=overwrite) as folder:
        with bar(source.count, "vectors", progress) as done:
            write_vectors(folder / VECTORS, source, dtype, False, done)
        shutil.copyfile(index, folder / INDEX)
        return finish(
            folder,
            source,
            kind_of(searcher),
            dtype,
            default_search(searcher, keep=True),
            captions,
            encoder,
            defaults,
            progress,
        )


def finish(
    folder: Path,
    source: Features,
    kind: str,
    dtype: Dtype,
    search: SearchSettings,
    captions: Path | None,
    encoder: Encoder | None,
    defaults: CacheParams | None,
    progress: bool,
) -> Manifest:
    """Captions and manifest, once vectors and index are written."""
    names: list[FileName] = [INDEX, VECTORS]
    if captions is not None:
        write_captions(folder, read_captions(captions), source.count, captions)
        names += [CAPTIONS, OFFSETS]
    size = sum((folder / name).stat().st_size for name in names)
    with bar(size, "sha256", progress, unit="B") as done:
        files = {name: describe_file(folder / name, done.update) for name in names}
    manifest = Manifest(
        count=source.count,
        dimension=source.dimension,
        kind=kind,
        vector_dtype=dtype,
        search=search,
        encoder=dict(encoder or {}),
        defaults=defaults or CacheParams(),
        files=files,
    )
    write_manifest(folder, manifest)
    return manifest


def write_vectors(
    path: Path, source: Features, dtype: Dtype, normalized: bool, done: "tqdm[Any]"
) -> None:
    """As one .npy file, written through (not mapped: dirty pages would count as our memory)."""
    with path.open("wb") as file:
        file.write(npy_header((source.count, source.dimension), np.dtype(dtype)))
        for block in checked(source):
            rows = normalize(block) if normalized else block
            file.write(rows.astype(dtype).tobytes())
            done.update(len(rows))


def npy_header(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> bytes:
    header = io.BytesIO()
    fields = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)  # type: ignore[no-untyped-call]
    return header.getvalue()


def checked(source: Features) -> Iterator[Array]:
    row = 0
    for block in source.blocks():
        sound = np.isfinite(block).all(axis=1) & (block != 0).any(axis=1)
        if not sound.all():
            wrong = row + int(np.argmin(sound))
            raise CacheError(f"{source.path}: row {wrong} is all zero or holds NaN or infinity")
        row += len(block)
        yield block


def make_index(dimension: int, kind: str) -> Any:
    try:
        return faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError:
        raise CacheError(f"{kind!r} is no index kind that FAISS knows") from None


def train(index: Any, rows: Array) -> None:
    """On a random sample, drawn in row order so that the file is read forwards."""
    if index.is_trained:
        return
    wanted = TRAIN_ROWS_PER_CELL * index.nlist
    sample = np.random.default_rng(SEED).permutation(len(rows))[:wanted]
    index.train(np.asarray(rows[np.sort(sample)], dtype=np.float32))


def default_search(index: Any, keep: bool = False) -> SearchSettings:
    """nprobe: as it is in the index, or a thirty-second of the cells."""
    if not hasattr(index, "nprobe"):
        return SearchSettings()
    return SearchSettings(nprobe=index.nprobe if keep else max(1, index.nlist // 32))


def kind_of(index: Any) -> str:
    if isinstance(index, faiss.IndexIVF):
        code = {
            faiss.IndexIVFFlat: "Flat",
            faiss.IndexIVFScalarQuantizer: "SQ",
            faiss.IndexIVFPQ: "PQ",
        }[type(index)]
        return f"IVF{index.nlist},{code}"
    return "Flat"


def bar(total: int, title: str, progress: bool, unit: str = "row") -> "tqdm[Any]":
    return tqdm(total=total, desc=title, unit=unit, unit_scale=True, disable=not progress)
