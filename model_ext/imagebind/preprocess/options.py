"""The options that control how an attachment is read, and the notes in which the reader reports
what it did.

This module imports only the standard library, so the API process uses it too.
"""

from dataclasses import dataclass
from typing import Literal

Channels = Literal["auto", "first", "mean"]
Note = str | int | float | bool
# Notes for the client about changes that a reader made to the data, e.g. {"dropped_rows": 3}.
Notes = dict[str, Note]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The options of one attachment. The result cache has a separate entry for each combination of
    a file and options.
    """

    # Which channel of a sound is encoded. first: channel 0, as in the released code. auto: channel
    # 0, unless it is silent and another channel is not. mean: the mean of all channels.
    channels: Channels = "auto"
    # Whether to rotate pictures by their EXIF orientation, which the released code ignores.
    orient: bool = False
    # Whether to move and scale clouds into the unit sphere. auto: only clouds with points outside
    # of it.
    normalize: bool | Literal["auto"] = False
    # Whether an IMU table without times is cut or padded to the encoder's number of steps, as
    # Weaviate's module multi2vec-bind does, instead of resampled.
    pad_rows: bool = False


DEFAULT_OPTIONS = ReadOptions()
