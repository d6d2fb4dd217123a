"""The bodies that the retrieval service and its clients exchange: little-endian numbers, no pickle.

The body of a request is the query, D float32. Its parameters are in the URL's query string. The
body of a response, for K neighbors (a header has the number), contains: the enhanced vector, D
float32; the similarities, K float32; the row numbers, K int64; with `prototypes=1`, the vectors of
the neighbors, K * D float32; with `explain=1`, their captions as JSON.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cache_index.captions import MAX_LINE_BYTES, Caption
from cache_index.enhance import Array, CacheParams
from cache_index.enhancer import EnhancedRow
from cache_index.errors import CacheUnavailable, QueryError

NEIGHBORS = "x-bindserve-neighbors"  # Header: number of neighbors, K.
CACHE = "x-bindserve-cache"  # Header: id of the cache that answered, which a reload changes.
FLOAT, INT = np.dtype("<f4"), np.dtype("<i8")

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, slots=True)
class EnhanceRequest:
    """The parameters of POST /v1/enhance, and which optional parts the response must contain."""

    params: CacheParams
    explain: bool = False
    prototypes: bool = False

    def pack(self) -> dict[str, str]:
        return {
            "top_k": str(self.params.top_k),
            "temperature": repr(self.params.inverse_temperature),
            "weight": repr(self.params.weight),
            "form": self.params.form,
            "explain": str(int(self.explain)),
            "prototypes": str(int(self.prototypes)),
        }

    @classmethod
    def unpack(cls, fields: Mapping[str, str], defaults: CacheParams) -> "EnhanceRequest":
        """Parse a query string. Missing parameters have the cache's defaults.

        Raises QueryError: for an unknown key or a bad value, which the message names.
        """
        names = {"top_k", "temperature", "weight", "form", "explain", "prototypes"}
        if unknown := fields.keys() - names:
            raise QueryError(f"unknown parameter {min(unknown)[:50]!r}")
        params = CacheParams(
            top_k=number(fields, "top_k", int, defaults.top_k),
            inverse_temperature=number(fields, "temperature", float, defaults.inverse_temperature),
            weight=number(fields, "weight", float, defaults.weight),
            # CacheParams checks the value.
            form=fields.get("form", defaults.form),  # type: ignore[arg-type]
        )
        return cls(params, flag(fields, "explain"), flag(fields, "prototypes"))

    def limit(self, dimension: int) -> int:
        """Return the largest valid size of the response in bytes. The client stops reading beyond
        it.
        """
        top_k = self.params.top_k
        vectors = 1 + top_k * self.prototypes
        captions = 2 * MAX_LINE_BYTES * top_k * self.explain
        return FLOAT.itemsize * dimension * vectors + (4 + 8) * top_k + captions


def number(
    fields: Mapping[str, str], key: str, kind: Callable[[str], Number], default: Number
) -> Number:
    try:
        return kind(fields[key]) if key in fields else default
    except ValueError:
        raise QueryError(f"{key} must be a number, got {fields[key][:50]!r}") from None


def flag(fields: Mapping[str, str], key: str) -> bool:
    value = fields.get(key, "0")
    if value not in ("0", "1"):
        raise QueryError(f"{key} must be 0 or 1, got {value[:50]!r}")
    return value == "1"


def pack_query(query: Array) -> bytes:
    return query.astype(FLOAT).tobytes()


def unpack_query(body: bytes, dimension: int) -> Array:
    if len(body) != dimension * FLOAT.itemsize:
        raise QueryError(
            f"the body must be {dimension} little-endian float32 "
            f"({dimension * FLOAT.itemsize} bytes), got {len(body)} bytes"
        )
    return np.frombuffer(body, dtype=FLOAT).astype(np.float32)


def pack_row(row: EnhancedRow, request: EnhanceRequest) -> bytes:
    parts = [
        row.vector.astype(FLOAT).tobytes(),
        row.similarity.astype(FLOAT).tobytes(),
        row.ids.astype(INT).tobytes(),
    ]
    if row.prototypes is not None:
        parts.append(row.prototypes.astype(FLOAT).tobytes())
    if request.explain:
        captions = [asdict(caption) for caption in row.captions]
        parts.append(json.dumps(captions, ensure_ascii=False).encode())
    return b"".join(parts)


def unpack_row(body: bytes, neighbors: int, dimension: int, request: EnhanceRequest) -> EnhancedRow:
    """Unpack a response. Raises CacheUnavailable: when the body is invalid or does not fit the
    request.
    """
    if neighbors > request.params.top_k:
        raise CacheUnavailable("the retrieval service returned more neighbors than top_k")
    reader = Reader(body)
    vector = reader.floats(dimension)
    similarity = reader.floats(neighbors)
    ids = reader.integers(neighbors)
    prototypes = None
    if request.prototypes:
        prototypes = reader.floats(neighbors * dimension).reshape(neighbors, dimension)
    captions = unpack_captions(reader.rest(), neighbors) if request.explain else ()
    if reader.rest():
        raise CacheUnavailable("the retrieval service's answer is too long")
    return EnhancedRow(vector, ids, similarity, captions, prototypes)


class Reader:
    """Reads the arrays of a response's body one after the other."""

    def __init__(self, body: bytes) -> None:
        self._rest = memoryview(body)

    def floats(self, count: int) -> Array:
        values = np.frombuffer(self._take(count * FLOAT.itemsize), FLOAT).astype(np.float32)
        if not np.isfinite(values).all():
            raise CacheUnavailable("the retrieval service's answer holds NaN or infinity")
        return values

    def integers(self, count: int) -> NDArray[np.int64]:
        return np.frombuffer(self._take(count * INT.itemsize), INT).astype(np.int64)

    def rest(self) -> bytes:
        return bytes(self._take(len(self._rest)))

    def _take(self, size: int) -> memoryview:
        if len(self._rest) < size:
            raise CacheUnavailable("the retrieval service's answer is too short")
        part, self._rest = self._rest[:size], self._rest[size:]
        return part


def unpack_captions(text: bytes, neighbors: int) -> tuple[Caption, ...]:
    try:
        captions = tuple(
            Caption(entry["caption"], entry["id"], entry.get("fields", {}))
            for entry in json.loads(text)
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise CacheUnavailable("the retrieval service's captions are unreadable") from None
    if len(captions) != neighbors:
        raise CacheUnavailable("the retrieval service's captions do not fit its neighbors")
    return captions
