"""Split a sound into pieces of speech samples, so that memory does not grow with its length.

A short sound is one piece. A long sound is cut at quiet places, so that no word is divided.
Shapes: N samples of one channel at 16 kHz, int16.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.container import is_audio
from server.encoding.decode.pool import MediaError
from server.encoding.windows import Cutter
from server.media.blob import Blob
from server.side.experts import DecodeView

RATE = 16_000
MAX_PIECE_S = 300
SEARCH_S = 20  # A piece ends at the quietest place of its last SEARCH_S seconds.
QUIET = RATE // 5  # Length, in samples, of the quiet place.
WINDOW_S = 30  # Length, in seconds, of the windows that the cutting process sends.
SMALL = 1 << 20  # Bytes. Most smaller files are short enough to be transcribed as a whole.

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Piece:
    start: float  # seconds from the start of the sound
    samples: Samples
    whole: bool = False  # whether the piece is the whole sound


async def pieces(
    content: Blob, modality: str, encoders: DecodeView, cutter: Cutter
) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of a sound, or of a video's sound track.

    Raises MediaError: when the file cannot be read, has no sound or exceeds a limit. Unavailable.
    """
    # the cutting process can read this format, so the sound may be long
    long = is_audio(content.head())
    if content.size <= SMALL or not long:
        try:
            samples = await encoders.decode("sound", modality, content)
        except MediaError:
            if not long:
                raise
        else:
            if not len(samples):
                raise MediaError("the file has no sound")
            yield Piece(0, np.asarray(samples, np.int16), whole=True)
            return
    async with aclosing(cutter.cut(content, WINDOW_S, WINDOW_S, speech=True)) as windows:
        start, kept = 0, np.zeros(0, np.int16)
        async for window in windows:
            data = window.content.head(window.content.size)
            kept = np.concatenate([kept, np.frombuffer(data, "<i2").astype(np.int16)])
            while len(kept) > MAX_PIECE_S * RATE:
                end = quietest(kept[: MAX_PIECE_S * RATE])
                yield Piece(start / RATE, kept[:end])
                start, kept = start + end, kept[end:]
        if len(kept):
            yield Piece(start / RATE, kept, whole=start == 0)


def quietest(samples: Samples) -> int:
    """Return the middle of the quietest QUIET samples in the last SEARCH_S seconds."""
    first = max(0, len(samples) - SEARCH_S * RATE)
    squares = np.square(samples[first:].astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    return first + int(np.argmin(sums[QUIET:] - sums[:-QUIET])) + QUIET // 2
