"""Which kind of index suits how many features and how much memory, in FAISS's factory notation.

Every kind here exists on a GPU too (HNSW and FastScan, which CPUs like, do not).
"""

import math
import os
import re
from typing import Literal

from cache_index.errors import CacheError

Target = Literal["cpu", "gpu"]

EXACT_BELOW = 20_000  # rows that an exact search scans in a few milliseconds on one core
CODES = re.compile(r"Flat|IVF\d+,(Flat|SQfp16|SQ8|PQ(?P<parts>\d+))")

# What faiss-gpu can do: parts of a product quantizer, and dimensions of one part.
PQ_PARTS = (96, 64, 56, 48, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
PQ_WIDTHS = (4, 6, 8, 10, 12, 16, 20, 24, 28, 32)


def choose_kind(
    count: int, dimension: int, *, target: Target = "cpu", memory: int | None = None
) -> str:
    """The most exact kind whose index fits into `memory` bytes, and is fast enough.

    `memory` is the target's; default for a CPU: half of what the machine has. A GPU searches
    exactly, in float16, whatever it can hold; a CPU does so with few rows only.
    """
    if memory is None:
        if target == "gpu":
            raise CacheError("say how much memory the GPU has for the index")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if (count < EXACT_BELOW) or (target == "gpu" and 2 * count * dimension <= memory):
        return "Flat"
    inverted = f"IVF{cells(count)}"
    if target == "cpu" and 4 * count * dimension <= memory:
        return f"{inverted},Flat"
    if 2 * count * dimension <= memory:
        return f"{inverted},SQfp16"
    if count * dimension <= memory:
        return f"{inverted},SQ8"
    return f"{inverted},PQ{parts(dimension)}"


def check_kind(kind: str, dimension: int) -> str:
    """`kind` if the service can search it on either device, else CacheError."""
    match = CODES.fullmatch(kind)
    if match is None:
        raise CacheError(
            f"{kind!r} is no supported index kind; use auto, Flat, IVFn,Flat, IVFn,SQfp16, "
            "IVFn,SQ8 or IVFn,PQm"
        )
    wanted = match["parts"] and int(match["parts"])
    if wanted and (dimension % wanted or wanted not in PQ_PARTS):
        raise CacheError(
            f"{kind!r}: {dimension} dimensions do not divide so; try {parts(dimension)}"
        )
    return kind


def cells(count: int) -> int:
    """The power of two next to 4 * sqrt(count): FAISS's own guideline for IVF."""
    return 1 << round(math.log2(4 * math.sqrt(count)))


def parts(dimension: int) -> int:
    """The finest product quantizer that a GPU takes: 64 bytes a row at 1024 dimensions."""
    for number in PQ_PARTS:
        if dimension % number == 0 and dimension // number in PQ_WIDTHS:
            return number
    raise CacheError(f"no product quantizer for {dimension} dimensions; choose another kind")
