"""The interface of the sound decoders, which decode a sound in blocks. Does not depend on torch.

Shapes: C channels, N samples of each channel.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

DAMAGED = "the audio is damaged"


class Block(NamedTuple):
    """Consecutive samples of a sound."""

    first: int  # index of the first sample of each channel
    samples: NDArray[np.float32]  # (N, C) in [-1, 1)
    rate: int  # sampling rate in Hz


class SoundReader(Protocol):
    def declared_length(self) -> int:
        """Return N as the file declares it, without decoding. It can be wrong. 0: unknown."""
        ...

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """Decode from a sample near `start` to the end of the file. Raises DecodeError."""
        ...
