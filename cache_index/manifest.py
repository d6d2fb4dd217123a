"""manifest.json: the content and search settings of a cache folder, and the sha256 of every file.

A cache may come from another machine, and FAISS's reader does not validate its input. Therefore,
the hash of each file is checked before the file is parsed. This module does not depend on FAISS.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from cache_index.enhance import CacheParams
from cache_index.errors import CacheError

MANIFEST = "manifest.json"
INDEX: Final = "index.faiss"
VECTORS: Final = "vectors.npy"
CAPTIONS: Final = "captions.jsonl"
OFFSETS: Final = "captions.offsets.npy"

MAX_MANIFEST_BYTES = 1 << 20
REBUILD = "build the cache again or fetch an intact copy"

FileName = Literal["index.faiss", "vectors.npy", "captions.jsonl", "captions.offsets.npy"]
EncoderIdentity = Mapping[str, Any]


class FileEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class SearchSettings(BaseModel):
    """The settings of the search, which tuning chose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Number of cells of an IVF index that a search visits.
    nprobe: Annotated[int, Field(ge=1)] | None = None
    # Number of candidates, for each returned neighbor, that are scored again.
    refine: Annotated[int, Field(ge=1, le=64)] = 1


class Recall(BaseModel):
    """The share of the true `at` nearest rows that a search returns, measured with `queries`
    queries that tuning did not use.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Annotated[int, Field(ge=1)]
    value: Annotated[float, Field(ge=0, le=1)]
    queries: Annotated[int, Field(ge=1)]


class Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    count: Annotated[int, Field(ge=1)]
    dimension: Annotated[int, Field(ge=1, le=65536)]
    metric: Literal["inner_product"] = "inner_product"
    kind: str  # FAISS's factory string, such as "Flat" or "IVF1024,Flat"
    vector_dtype: Literal["float32", "float16"]
    search: SearchSettings = SearchSettings()
    # origin of the features, such as the sha256 of the encoder's weights
    encoder: dict[str, Any] = {}
    recall: Recall | None = None
    defaults: CacheParams = CacheParams()
    # Whether `bindserve cache shuffle` has permuted the stored vectors, but not the index. Then,
    # only the index determines the order of the neighbors.
    shuffled: bool = False
    files: dict[FileName, FileEntry]

    @model_serializer(mode="wrap")
    def without_default(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit `shuffled` if it is false, so that the hashes of older manifests do not change."""
        fields: dict[str, Any] = write(self)
        return fields if self.shuffled else {k: v for k, v in fields.items() if k != "shuffled"}

    @cached_property
    def name(self) -> str:
        """Return a short hash of the manifest's content, which identifies the cache."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise CacheError(
            f"{path}: {error.strerror}; a cache is a folder written by `bindserve cache build`"
        ) from None
    if len(text) > MAX_MANIFEST_BYTES:
        raise CacheError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes; {REBUILD}")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise CacheError(f"{path}: {key}: {first['msg']}; {REBUILD}") from None
    required = {INDEX, VECTORS}
    if absent := required - manifest.files.keys():
        raise CacheError(f"{path}: lists no {' and no '.join(sorted(absent))}; {REBUILD}")
    if (CAPTIONS in manifest.files) != (OFFSETS in manifest.files):
        raise CacheError(f"{path}: lists only one of {CAPTIONS} and {OFFSETS}; {REBUILD}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")


def check_files(folder: Path, manifest: Manifest, *, verify: bool) -> None:
    """Check the size of every listed file, and with `verify` its sha256. Raises CacheError: when a
    file differs; the message names it.
    """
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise CacheError(f"{path}: {error.strerror}; {REBUILD}") from None
        if size != entry.bytes:
            raise CacheError(f"{path}: {size} bytes, {MANIFEST} says {entry.bytes}; {REBUILD}")
    for name, entry in manifest.files.items() if verify else ():
        if sha256(folder / name) != entry.sha256:
            raise CacheError(
                f"{folder / name}: its sha256 differs from that in {MANIFEST}; {REBUILD}"
            )


def check_encoder(where: Path | str, manifest: Manifest, expected: EncoderIdentity) -> None:
    """Check the encoder of the features, because vectors of different encoders cannot be compared.

    Raises CacheError: when the manifest has another encoder or none.
    """
    for key, value in expected.items():
        if key not in manifest.encoder:
            raise CacheError(
                f"{where}: does not say which encoder its features come from "
                f"(no encoder.{key}); build the cache again with the model's own encoder"
            )
        if manifest.encoder[key] != value:
            raise CacheError(
                f"{where}: built with another encoder: {key} is "
                f"{manifest.encoder[key]!r}, the model's is {value!r}; "
                "build the cache again with the model's own encoder"
            )


def describe_file(path: Path, advance: Callable[[int], object] | None = None) -> FileEntry:
    return FileEntry(bytes=path.stat().st_size, sha256=sha256(path, advance))


def sha256(path: Path, advance: Callable[[int], object] | None = None) -> str:
    """Hash a file in blocks. Calls `advance` with the size of each block."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while block := file.read(1 << 22):
            digest.update(block)
            if advance:
                advance(len(block))
    return digest.hexdigest()
