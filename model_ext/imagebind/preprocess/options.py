"""How a file is read: the options of an attachment, and the notes on what its reader did.

This module imports only the standard library, so the API process uses it too.
"""

from dataclasses import dataclass
from typing import Literal

Channels = Literal["auto", "first", "mean"]
Note = str | int | float | bool
# Facts that a reader reports to the client, e.g. {"dropped_rows": 3}.
Notes = dict[str, Note]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The options of one attachment. The result cache has a separate entry for each value."""

    # The channel of a sound that is encoded. first: channel 0, as released. auto: channel 0, unless
    # it is silent and another channel is not. mean: the mean of all channels.
    channels: Channels = "auto"
    # Whether pictures are turned as their EXIF orientation says. The released model ignores it.
    orient: bool = False
    # Whether clouds are moved and scaled into the unit sphere. auto: only clouds outside of it.
    normalize: bool | Literal["auto"] = False
    # Whether an IMU table without times is cut or padded to the encoder's number of steps, as in
    # Weaviate's module multi2vec-bind, instead of resampled.
    pad_rows: bool = False


DEFAULT_OPTIONS = ReadOptions()
