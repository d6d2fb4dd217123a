"""The cache model of ImageBind-LLM: move an embedding towards the training images nearest to it.

The bind network was trained on image embeddings only. Embeddings of other modalities are in another
region of ImageBind's joint space. Mixing each embedding with the nearest image embeddings moves it
towards the image region, without training. This file computes the mix. It does not depend on FAISS
or on files.

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

# At this inverse temperature, the nearest neighbor has all the weight.
MAX_INVERSE_TEMPERATURE = 1e6
# This maximum limits a request's memory (top_k * D floats). A GPU index allows at most 2048.
MAX_TOP_K = 1024


@dataclass(frozen=True, slots=True)
class CacheParams:
    """Parameters of the enhancement. The defaults are those of the reference implementation."""

    top_k: int = 10
    # With a higher value, the nearest neighbors get more of the weight. The paper's form does not
    # use this parameter.
    inverse_temperature: float = 20.0
    # Share of the neighbors in the result: 0 ignores the neighbors, 1 ignores the query.
    weight: float = 0.5
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
    """Blend each query (B, D) with its neighbors; each query has its own parameters.

    similarity (B, K) and prototype (B, K, D) are ordered best first. Entries where `hit` (B, K) is
    false, and entries beyond the row's top_k, are ignored. A query without a hit is unchanged.

    The released form weights neighbors by a softmax and returns unit vectors. The paper's form (eq.
    3-4) weights them by the raw similarity and normalizes nothing. Queries are not normalized: the
    mix of several embeddings is shorter than 1.
    """
    top_k = column([p.top_k for p in params])
    weight = column([p.weight for p in params])
    sharpness = column([p.inverse_temperature for p in params])
    paper = column([p.form == "paper" for p in params]).astype(bool)

    counted = hit & (np.arange(similarity.shape[1]) < top_k)
    weight = np.where(counted.any(axis=1, keepdims=True), weight, 0)
    similarity = np.where(counted, similarity, 0)
    # `attention` (B, K): the weights of the neighbors. `recalled` (B, D): the neighbors' weighted
    # sum.
    attention = np.where(paper, similarity, softmax(sharpness * similarity, counted))
    recalled = np.einsum("bk,bkd->bd", attention, prototype)
    recalled = np.where(paper, recalled, normalize(recalled))
    blended = (1 - weight) * query + weight * recalled
    return np.where(paper, blended, normalize(blended))


def column(values: Sequence[float]) -> Array:
    """Reshape one number per row (B,) to (B, 1), so that it broadcasts over the row."""
    return np.asarray(values, dtype=np.float32)[:, None]


def softmax(x: Array, counted: NDArray[np.bool_]) -> Array:
    """Compute the softmax over the `counted` entries of each row. It is 0 for the other entries."""
    x = np.where(counted, x, -np.inf)
    peak = x.max(
        axis=-1, keepdims=True, initial=-np.inf
    )  # subtract the row's maximum, so that exp cannot overflow
    exp: Array = np.exp(x - np.where(np.isfinite(peak), peak, 0))
    total = np.maximum(exp.sum(axis=-1, keepdims=True), np.float32(1))
    share: Array = exp / total  # a row without counted entries has the sum 0
    return share


def normalize(x: Array) -> Array:
    """Scale rows to length 1. A zero row stays zero."""
    norm = np.linalg.norm(x, axis=-1, keepdims=True)
    unit: Array = x / np.maximum(norm, np.finfo(np.float32).tiny)
    return unit
