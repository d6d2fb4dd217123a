"""Draw a subset of a data set as LVLM-eHub does: with NumPy's legacy generator and seed 0."""

import numpy as np


def draw(items: int, size: int) -> list[int]:
    """Return `size` different random indices below `items`, in the order of the draws.

    Raises ValueError: when there are fewer items than `size`.
    """
    if size > items:
        raise ValueError(f"cannot draw {size} of {items} items")
    generator = np.random.RandomState(0)
    return [int(index) for index in generator.choice(items, size, replace=False)]
