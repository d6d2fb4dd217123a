"""Open sounds. libsndfile reads wav, flac, ogg, aiff, caf, w64 and au. PyAV (FFmpeg) reads all
other containers, and the codecs that libsndfile does not know. This module accepts any number of
channels, and all rates that the limits allow.
"""

from torch import Tensor

from model_ext.imagebind.preprocess.av_sound import AvSound
from model_ext.imagebind.preprocess.blocks import SoundReader
from model_ext.imagebind.preprocess.container import LIBSNDFILE, container
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes
from model_ext.imagebind.preprocess.sndfile_sound import SndfileSound
from model_ext.imagebind.preprocess.source import Source, head_of
from model_ext.imagebind.preprocess.waveforms import (
    LongSound,
    Sound,
    Waveform,
    check_header,
    gather,
)

# Sounds with more samples of all channels than this are not kept in memory (32 MiB).
MAX_KEPT = 8 * 2**20


def decode(source: Source, limits: Limits, notes: Notes | None = None) -> tuple[Tensor, int]:
    """Decode the whole file.

    Returns samples (channels, N) in [-1, 1) and the sampling rate in Hz.

    Raises DecodeError.
    """
    sound = gather(_reader(source, limits, {} if notes is None else notes).blocks(), limits)
    return sound.samples, sound.rate


def open_sound(source: Source, limits: Limits, notes: Notes) -> Sound:
    """Decode a short file into memory. Of a long file, only the pieces that the caller reads are
    decoded. Raises DecodeError.
    """
    reader = _reader(source, limits, notes)
    start = gather(reader.blocks(), limits, MAX_KEPT)
    if start.whole:
        return Waveform(start.samples, start.rate)
    return LongSound(reader, start.rate, len(start.samples), limits)


def _reader(source: Source, limits: Limits, notes: Notes) -> SoundReader:
    head = head_of(source)
    name = container(head)
    if name is None:
        raise unreadable("audio", head)
    notes["container"] = name
    if name in LIBSNDFILE and (sound := SndfileSound.open(source)) is not None:
        check_header(sound.rate, sound.channels, sound.declared_length(), limits)
        return sound
    return AvSound(source, name, notes)
