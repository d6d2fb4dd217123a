"""The learning rate: a linear warm-up, then half a cosine down to the minimum.

All times of a call have the same unit: epochs for the language model, steps for the encoders.
"""

import math


def learning_rate(
    time: float, warmup: float, end: float, peak: float, minimum: float = 0.0
) -> float:
    """Return 0 at the start of the warm-up, `peak` at its end, and `minimum` at `end`."""
    if time < warmup:
        return peak * time / warmup
    progress = (time - warmup) / (end - warmup) if end > warmup else 1.0
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
