"""Choose which channel of a sound is encoded. The released model encodes channel 0. This channel
can be silent, for example if a microphone recorded only the right channel, or if the speech of a
film is in the centre channel.
"""

from torch import Tensor

from model_ext.imagebind.preprocess.options import Channels, Notes

# A channel is silent if its peak is below this part of the loudest channel's peak (-40 dB). Lossy
# codecs write a little of the other channels into a silent channel.
SILENT = 0.01


def choose_channel(waveform: Tensor, channels: Channels, notes: Notes) -> int:
    """Return the index of the channel to encode, for a waveform (channels, N)."""
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
