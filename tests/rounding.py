"""Error bounds of float32 results, derived from the number of summed terms.

The relative error of a float32 sum of n terms is about sqrt(n) * 2**-24, because rounding errors
have random signs (Higham and Mary, "A new approach to probabilistic rounding error analysis",
2019). The order of the terms depends on the processor and on the number of threads, so a test must
allow every order. In a chain of sums the relative errors add up at worst.
"""

import math
from collections.abc import Iterable

UNIT = 2.0**-24  # the largest relative error of one float32 operation


def rounding(terms: Iterable[int]) -> float:
    """Bound the relative error of a chain of float32 sums.

    `terms`: the number of terms of each sum on the longest path from the inputs to the result.
    Compare with a float64 oracle; between two float32 results the bound is twice as large.
    """
    return UNIT * sum(math.sqrt(number) for number in terms)
