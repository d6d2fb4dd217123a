"""Which kind of index suits how many features and how much memory, in FAISS's factory notation.

A CPU with many features gets product codes for its vector registers ("fast scan": one bit a
dimension, and the right answers are among the first 20 to 80 candidates; two bits where there are
few dimensions, for with one, no setting finds more than 97% of the neighbors of 375,000 pictures of
256). To scan a row of 1024 dimensions takes 6 ns; one-bit RaBitQ takes 11 and 5 us a cell, ordinary
product codes of half the size 40, SQ8 180, float32 300. GPUs have no such index (nor HNSW).
"""

import math
import re
from typing import Literal

from cache_index.errors import CacheError

Target = Literal["cpu", "gpu"]

EXACT_BELOW = 20_000  # rows that an exact search scans in a few milliseconds on one core
CODES = re.compile(r"Flat|IVF\d+,(Flat|SQfp16|SQ8|PQ(?P<parts>\d+)(?P<fast>x4fs)?)")

# What faiss-gpu can do: parts of a product quantizer, and dimensions of one part.
PQ_PARTS = (96, 64, 56, 48, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
PQ_WIDTHS = (4, 6, 8, 10, 12, 16, 20, 24, 28, 32)


def choose_kind(
    count: int, dimension: int, *, target: Target = "cpu", memory: int | None = None
) -> str:
    """A CPU scans few rows exactly and many as codes of a bit or two a dimension. A GPU, whose
    `memory` (bytes for the index) has to be told, scans exactly, in float16, what it can hold, and
    codes beyond."""
    if count < EXACT_BELOW:
        return "Flat"
    if target == "cpu":
        few = dimension <= 256 and dimension % 2 == 0  # an odd number has no halves
        codes = dimension // 2 if few else -(-dimension // 4)  # of 4 bits
        return f"IVF{cells(count) // 4},PQ{codes}x4fs"
    if memory is None:
        raise CacheError("say how much memory the GPU has for the index")
    if 2 * count * dimension <= memory:
        return "Flat"
    inverted = f"IVF{cells(count)}"
    return f"{inverted},SQ8" if count * dimension <= memory else f"{inverted},PQ{parts(dimension)}"


def check_kind(kind: str, dimension: int, *, target: Target = "cpu") -> str:
    """`kind` if the target's FAISS can search it, else CacheError."""
    match = CODES.fullmatch(kind)
    if match is None:
        raise CacheError(
            f"{kind!r} is no supported index kind; use auto, Flat, or IVFn with Flat, SQfp16, SQ8, "
            "PQm or PQmx4fs"
        )
    if match["fast"] and target == "gpu":
        raise CacheError(f"{kind!r}: no GPU index; use auto, or SQ8 or PQ codes")
    if match["parts"]:
        check_parts(kind, int(match["parts"]), dimension, fast=bool(match["fast"]))
    return kind


def check_parts(kind: str, wanted: int, dimension: int, *, fast: bool) -> None:
    if not wanted or dimension % wanted:
        raise CacheError(f"{kind!r}: {dimension} dimensions do not divide into {wanted} parts")
    if not fast and wanted not in PQ_PARTS:
        raise CacheError(f"{kind!r}: no GPU has {wanted} parts; try PQ{parts(dimension)}")


def cells(count: int) -> int:
    """The power of two next to 4 * sqrt(count): FAISS's own guideline for IVF."""
    return 1 << round(math.log2(4 * math.sqrt(count)))


def parts(dimension: int) -> int:
    """The finest product quantizer that a GPU takes: 64 bytes a row at 1024 dimensions."""
    for number in PQ_PARTS:
        if dimension % number == 0 and dimension // number in PQ_WIDTHS:
            return number
    raise CacheError(f"no product quantizer for {dimension} dimensions; choose another kind")
