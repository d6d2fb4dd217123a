"""The interface of the video decoders that `video.py` uses.

Shapes: N frames of the video.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.errors import DecodeError


class Damaged(DecodeError):
    """Raised when this decoder cannot read the file. Another decoder may be able to."""


class Video(Protocol):
    def timeline(self) -> tuple[NDArray[np.float64], float]:
        """Return the start and end of each frame in seconds (N, 2), and the mean frame rate. The
        first frame starts at 0.

        Raises Damaged. Raises DecodeError: when the video exceeds a limit.
        """
        ...

    def frames(self, indices: Sequence[int]) -> Sequence[NDArray[np.uint8]]:
        """Decode frames (H, W, 3). Call `timeline` first. `indices`: increasing.

        Raises as `timeline` does.
        """
        ...
