"""LVLM-eHub's draw of a subset: NumPy's legacy generator, seed 0, in drawn order."""

import numpy as np


def draw(items: int, size: int) -> list[int]:
    """`size` different indices below `items`.

    Raises ValueError: when there are fewer items than `size`.
    """
    if size > items:
        raise ValueError(f"cannot draw {size} of {items} items")
    generator = np.random.RandomState(0)
    return [int(index) for index in generator.choice(items, size, replace=False)]
