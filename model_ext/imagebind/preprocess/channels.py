"""Choose the channel of a sound that is encoded.

The released model encodes channel 0. In a recording with one microphone, in which only the right
channel has a signal, and in the speech of a film (centre channel), this channel is silent.
"""

from torch import Tensor

from model_ext.imagebind.preprocess.options import Channels, Notes

# A channel is silent if its peak is below this part of the loudest channel's peak (-40 dB). Lossy
# codecs leave a little of the other channels in a silent channel.
SILENT = 0.01


def choose_channel(waveform: Tensor, channels: Channels, notes: Notes) -> int:
    """Return the index of the channel of a waveform (channels, N) that is encoded."""
    if channels == "mean" or len(waveform) == 1:
        if channels == "mean":
            notes["channel"] = "mean"
        return 0
    peaks = waveform.abs().amax(1)
    loudest = int(peaks.argmax())
    chosen = loudest if channels == "auto" and peaks[0] < SILENT * peaks[loudest] else 0
    notes["channel"] = chosen
    if peaks[chosen] < SILENT * peaks[loudest]:
        notes["silent"] = True
    return chosen
