"""The cache model of ImageBind-LLM: move an embedding towards the training images nearest to it.

The bind network was trained on image embeddings only. Embeddings of other modalities land in
another region of ImageBind's joint space. Mixing each one with the images that resemble it narrows
that gap without training. This file has the formula; it does not depend on FAISS or on files.

Shapes: B queries, K neighbors each, D embedding dimensions (1024 for ImageBind-huge).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cache_index.errors import QueryError

Array = NDArray[np.float32]
Form = Literal["released", "paper"]

MAX_INVERSE_TEMPERATURE = 1e6  # one neighbor has all the weight far below it
MAX_TOP_K = 1024  # one request gathers top_k * D floats; a GPU index answers 2048 at most


@dataclass(frozen=True, slots=True)
class CacheParams:
    """Parameters of the enhancement. The defaults are those of the reference implementation."""

    top_k: int = 10
    inverse_temperature: float = 20.0  # higher: fewer neighbors count; unused by the paper's form
    weight: float = 0.5  # 0 ignores the cache, 1 ignores the query
    form: Form = "released"

    def __post_init__(self) -> None:
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int):
            raise QueryError(f"top_k must be a whole number, got {self.top_k!r}")
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise QueryError(f"top_k must be in [1, {MAX_TOP_K}], got {self.top_k}")
        if not 0 <= self.inverse_temperature <= MAX_INVERSE_TEMPERATURE:
            raise QueryError(
                f"temperature must be in [0, {MAX_INVERSE_TEMPERATURE:g}], "
                f"got {self.inverse_temperature}"
            )
        if not 0 <= self.weight <= 1:
            raise QueryError(f"weight must be in [0, 1], got {self.weight}")
        if self.form not in ("released", "paper"):
            raise QueryError(f"form must be 'released' or 'paper', got {self.form!r}")


def enhance(
    query: Array,
    similarity: Array,
    hit: NDArray[np.bool_],
    prototype: Array,
    params: Sequence[CacheParams],
) -> Array:
    """Blend each query (B, D) with its own neighbors, each row with its own parameters.

    similarity (B, K) and prototype (B, K, D) are ordered best first. Entries that are no `hit`
    (B, K), and entries beyond the row's top_k, are ignored. A row without any hit is unchanged.

    The released form weighs by softmax and returns unit length; the paper's (eq. 3-4) weighs by
    the raw similarity and normalizes nothing. A query is not normalized: a mix of modalities is
    shorter than 1.
    """
    top_k = column([p.top_k for p in params])
    weight = column([p.weight for p in params])
    sharpness = column([p.inverse_temperature for p in params])
    paper = column([p.form == "paper" for p in params]).astype(bool)

    counted = hit & (np.arange(similarity.shape[1]) < top_k)
    weight = np.where(counted.any(axis=1, keepdims=True), weight, 0)
    similarity = np.where(counted, similarity, 0)
    attention = np.where(paper, similarity, softmax(sharpness * similarity, counted))  # (B, K)
    recalled = np.einsum("bk,bkd->bd", attention, prototype)  # (B, D)
    recalled = np.where(paper, recalled, normalize(recalled))
    blended = (1 - weight) * query + weight * recalled
    return np.where(paper, blended, normalize(blended))


def column(values: Sequence[float]) -> Array:
    """One number per row (B,) as (B, 1), so that it broadcasts over a row."""
    return np.asarray(values, dtype=np.float32)[:, None]


def softmax(x: Array, counted: NDArray[np.bool_]) -> Array:
    """Over the counted entries of each row; the others, and a row without any, get 0."""
    x = np.where(counted, x, -np.inf)
    peak = x.max(
        axis=-1, keepdims=True, initial=-np.inf
    )  # shifted by it, so that exp never overflows
    exp: Array = np.exp(x - np.where(np.isfinite(peak), peak, 0))
    total = np.maximum(exp.sum(axis=-1, keepdims=True), np.float32(1))
    share: Array = exp / total  # the peak alone sums to 1: only a row without any has less
    return share


def normalize(x: Array) -> Array:
    """To unit length; a zero row has no direction and stays zero."""
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    unit: Array = x / np.maximum(norm, np.finfo(np.float32).tiny)
    return unit
