"""Which kind of index suits how many features, in FAISS's factory notation."""

import math

EXACT_BELOW = 20_000  # rows that an exact search scans in a few milliseconds on one core


def choose_kind(count: int) -> str:
    if count < EXACT_BELOW:
        return "Flat"
    return f"IVF{cells(count)},Flat"


def cells(count: int) -> int:
    """The power of two next to 4 * sqrt(count): FAISS's own guideline for IVF."""
    return 1 << round(math.log2(4 * math.sqrt(count)))
