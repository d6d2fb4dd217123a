"""Choose the frames of a video's clips: five clips of 2 s. Does not depend on torch."""

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

CLIPS = 5
CLIP_SECONDS = 2


def clip_frames(times: NDArray[np.float64], fps: float) -> list[range]:
    """Return the indices of the frames of each 2 s clip.

    `times` (frames, 2) has the start and end of each frame in seconds, from 0.

    Clips are evenly spaced and the last one ends with the video. A frame belongs to the clip in
    which it starts. decord's times are rounded to float32, so comparing them exactly would choose
    wrong frames near the start or the end of a clip. This function computes with fractions if the
    frame rate is constant, and otherwise compares with a tolerance.
    """
    count, duration = len(times), Fraction(float(times[-1, 1]))
    tolerance = 2e-7 * float(duration) + 1e-6
    rate = Fraction(fps).limit_denominator(1001) if math.isfinite(fps) else Fraction(0)
    if rate > 0 and np.abs(times[:, 0] - np.arange(count) / float(rate)).max() <= tolerance:
        bounds = [
            (math.ceil(start * rate), math.ceil((start + CLIP_SECONDS) * rate))
            for start in clip_starts(count / rate)
        ]
    else:
        bounds = [
            (
                int(np.searchsorted(times[:, 0], float(start) - tolerance)),
                int(np.searchsorted(times[:, 0], float(start) + CLIP_SECONDS - tolerance)),
            )
            for start in clip_starts(duration)
        ]
    return [_at_least_one(first, min(stop, count)) for first, stop in bounds]


def clip_starts(duration: Fraction) -> list[Fraction]:
    return [i * max(duration - CLIP_SECONDS, Fraction(0)) / (CLIPS - 1) for i in range(CLIPS)]


def _at_least_one(first: int, stop: int) -> range:
    """Return the frames that start in the clip. If there is none (low frame rates), returns the
    frame before the clip.
    """
    return range(first, stop) if first < stop else range(max(first - 1, 0), max(first, 1))
