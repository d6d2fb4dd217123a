"""The learning rate: a linear warm-up, and then half a cosine wave down to the minimum.

The unit of time is an epoch for the language model, and a step for the encoders.
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
