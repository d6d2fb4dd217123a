"""The interface of a video decoder, which `video.py` uses.

Shapes: N frames of the video, T frames of a clip.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.errors import DecodeError


class Damaged(DecodeError):
    """The decoder cannot read the file; another decoder may."""


class Video(Protocol):
    def timeline(self) -> tuple[NDArray[np.float64], float]:
        """Return the start and end of each frame in seconds, from 0 (N, 2), and the mean rate.

        Raises Damaged. Raises DecodeError: when the video exceeds a limit.
        """
        ...

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Decode frames (T, H, W, 3). Call `timeline` first. Raises as `timeline` does."""
        ...
