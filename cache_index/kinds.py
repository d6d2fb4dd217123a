"""Choose a kind of index by the number of features and the memory, in FAISS's factory notation.

For many features on a CPU, this module chooses product quantizer codes that the CPU scans in vector
registers (FAISS's "fast scan"). With one bit per dimension, the true neighbors are among the first
20 to 80 candidates. Codes for up to 256 dimensions have two bits per dimension, because a search
with one bit found at most 97% of the neighbors among 375,000 pictures. Measured times to scan a row
of 1024 dimensions: fast scan 6 ns, RaBitQ 11 ns (and 5 us per cell), other product codes of half
the size 40 ns, SQ8 180 ns, float32 300 ns. FAISS's GPU indexes do not include fast scan or HNSW.
"""

import math
import re
from typing import Literal

from cache_index.errors import CacheError

Target = Literal["cpu", "gpu"]

EXACT_BELOW = 20_000  # up to this number of rows, exact search takes only a few milliseconds
CODES = re.compile(r"Flat|IVF\d+,(Flat|SQfp16|SQ8|PQ(?P<parts>\d+)(?P<fast>x4fs)?)")

# The product quantizers that faiss-gpu supports: numbers of parts, and dimensions per part.
PQ_PARTS = (96, 64, 56, 48, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
PQ_WIDTHS = (4, 6, 8, 10, 12, 16, 20, 24, 28, 32)


def choose_kind(
    count: int, dimension: int, *, target: Target = "cpu", memory: int | None = None
) -> str:
    """Return Flat for few rows, or if all rows fit into a GPU's `memory` (bytes) in float16.

    For other sizes, returns IVF with compressed codes: on a CPU, codes of one or two bits per
    dimension; on a GPU, SQ8 if these codes fit, and otherwise PQ.
    Raises CacheError: when the target is a GPU and `memory` is missing.
    """
    if count < EXACT_BELOW:
        return "Flat"
    if target == "cpu":
        few = (
            dimension <= 256 and dimension % 2 == 0
        )  # Each 4-bit code covers 2 dimensions, so the width must be even.
        codes = dimension // 2 if few else -(-dimension // 4)  # Number of 4-bit codes.
        return f"IVF{cells(count) // 4},PQ{codes}x4fs"
    if memory is None:
        raise CacheError("the size of the GPU memory for the index is missing: give its bytes")
    if 2 * count * dimension <= memory:
        return "Flat"
    inverted = f"IVF{cells(count)}"
    return f"{inverted},SQ8" if count * dimension <= memory else f"{inverted},PQ{parts(dimension)}"


def check_kind(kind: str, dimension: int, *, target: Target = "cpu") -> str:
    """Return `kind`.

    Raises CacheError: when FAISS cannot search this kind on the target.
    """
    match = CODES.fullmatch(kind)
    if match is None:
        raise CacheError(
            f"{kind!r} is no supported index kind; use auto, Flat, or IVFn with Flat, SQfp16, SQ8, "
            "PQm or PQmx4fs"
        )
    if match["fast"] and target == "gpu":
        raise CacheError(f"{kind!r}: there is no GPU index of this kind; use auto, SQ8 or PQ")
    if match["parts"]:
        check_parts(kind, int(match["parts"]), dimension, fast=bool(match["fast"]))
    return kind


def check_parts(kind: str, number: int, dimension: int, *, fast: bool) -> None:
    if not number or dimension % number:
        raise CacheError(f"{kind!r}: {dimension} dimensions do not divide into {number} parts")
    if not fast and number not in PQ_PARTS:
        raise CacheError(f"{kind!r}: no GPU index has {number} parts; try PQ{parts(dimension)}")


def cells(count: int) -> int:
    """Return the power of two nearest to 4 * sqrt(count), FAISS's guideline for IVF."""
    return 1 << round(math.log2(4 * math.sqrt(count)))


def parts(dimension: int) -> int:
    """Return the most precise product quantizer that a GPU supports: 64 bytes per row for 1024
    dimensions.
    """
    for number in PQ_PARTS:
        if dimension % number == 0 and dimension // number in PQ_WIDTHS:
            return number
    raise CacheError(f"no product quantizer for {dimension} dimensions; choose another kind")
