"""Decode sound files into three normalised log mel spectrograms (3, 1, 128, 204).

The library libsndfile reads wav, flac, ogg, mp3, aiff, caf, w64 and au from memory. PyAV (FFmpeg)
reads all other containers, and the codecs that libsndfile does not know. This module accepts any
number of channels, and all rates that the limits allow.
"""

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.av_sound import Block, sound_blocks
from model_ext.imagebind.preprocess.channels import choose_channel
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.container import LIBSNDFILE, container
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.fbank import RATE, WINDOW, log_mel
from model_ext.imagebind.preprocess.kinds import unreadable
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Channels, Notes, ReadOptions
from model_ext.imagebind.preprocess.resample import Resampler

CLIPS = 3
CLIP_SECONDS = 2
MEAN, STD = -4.268, 9.138
BLOCK = 65_536  # Number of frames read at a time.
UNKNOWN = 2**62  # libsndfile reports more frames than this if a FLAC header has no length.

DAMAGED = "the audio is damaged"


def read_audio(
    data: bytes,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode audio to spectrograms (3, 1, mel bins, target length), float32."""
    notes = {} if notes is None else notes
    waveform, rate = decode(data, limits, notes)
    clips = cut_clips(waveform, rate, options.channels, notes)
    features = log_mel(clips, config.mel_bins).transpose(1, 2)
    # As in the released model, pad before normalising: padded cells are log(1) = 0 before
    # normalisation.
    features = F.pad(features, (0, max(0, config.target_length - features.shape[2])))
    features = (features[:, None, :, : config.target_length] - MEAN) / STD
    if not features.isfinite().all():
        raise DecodeError("the audio has samples that are too large")
    return features


def decode(data: bytes, limits: Limits, notes: Notes | None = None) -> tuple[Tensor, int]:
    """Decode the file.

    Returns samples (channels, N) in [-1, 1) and the sampling rate in Hz.

    Raises DecodeError.
    """
    notes = {} if notes is None else notes
    name = container(data)
    if name is None:
        raise unreadable("audio", data)
    notes["container"] = name
    try:
        if name in LIBSNDFILE and (file := _open(data)) is not None:
            with file:
                _check_header(file.samplerate, file.channels, file.frames, limits)
                samples, rate = _gather(_blocks(file), limits)
        else:
            samples, rate = _gather(sound_blocks(data, name, notes), limits)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError):
        raise DecodeError(DAMAGED) from None
    if not samples.isfinite().all():
        raise DecodeError("the audio has samples that are not finite numbers")
    return samples, rate


def cut_clips(
    waveform: Tensor, rate: int, channels: Channels = "first", notes: Notes | None = None
) -> Tensor:
    """Resample to 16 kHz and cut three clips: (channels, N) -> one channel of the clips (3, n).

    Subtracts each clip's mean (over samples and channels) in place, in the waveform that all clips
    share, as the released code does. If clips overlap, the later clip therefore contains samples
    that were already changed.
    """
    notes = {} if notes is None else notes
    resampler = Resampler(rate, RATE)
    if resampler.length(waveform.shape[1]) < WINDOW:
        waveform = F.pad(waveform, (0, -(-WINDOW * rate // RATE) - waveform.shape[1]))
        notes["padded_to_ms"] = WINDOW * 1000 // RATE
    length = resampler.length(waveform.shape[1])
    bounds = clip_bounds(length)
    shared = waveform.new_zeros(len(waveform), length)
    for start, stop in bounds:
        shared[:, start:stop] = (
            waveform[:, start:stop] if rate == RATE else resampler.stretch(waveform, start, stop)
        )
    if channels == "mean":
        shared = shared.mean(0, keepdim=True)
    channel = choose_channel(shared, channels, notes)
    clips = []
    for start, stop in bounds:
        shared[:, start:stop] -= shared[:, start:stop].mean()
        clips.append(shared[channel, start:stop].clone())
    return torch.stack(clips)


def clip_bounds(samples: int) -> list[tuple[int, int]]:
    """Return the start and end of each clip, in samples.

    Clips are evenly spaced; the last clip ends with the file.

    In a file of less than 2 s, each clip is the whole file. Computes with fractions, because
    rounding errors of floats would move the start or the end of a clip by one sample.
    """
    duration = Fraction(samples / RATE)
    starts = [i * max(duration - CLIP_SECONDS, Fraction(0)) / (CLIPS - 1) for i in range(CLIPS)]
    return [
        (int(start * RATE), min(int((start + CLIP_SECONDS) * RATE), samples)) for start in starts
    ]


def _check_header(rate: int, channels: int, frames: int, limits: Limits) -> None:
    if not 1 <= channels <= limits.audio_channels:
        raise DecodeError(f"the audio has more than {limits.audio_channels} channels")
    if not 1000 <= rate <= limits.audio_rate:
        raise DecodeError(f"the audio's sampling rate is not in 1000..{limits.audio_rate} Hz")
    if frames > _max_frames(rate, channels, limits):
        raise _too_long(limits)


def _max_frames(rate: int, channels: int, limits: Limits) -> int:
    return min(rate * limits.audio_seconds, limits.audio_samples // channels)


def _open(data: bytes) -> soundfile.SoundFile | None:
    """Open the file with libsndfile, or return None if it does not know the codec or the length."""
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError:
        return None
    return file if file.frames < UNKNOWN else None


def _blocks(file: soundfile.SoundFile) -> Iterator[Block]:
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        yield block, file.samplerate


def _gather(blocks: Iterable[Block], limits: Limits) -> tuple[Tensor, int]:
    """Join all blocks to one array (channels, N). Counts the samples, because a file may have more
    samples than its header declares.
    """
    kept: list[NDArray[np.float32]] = []
    frames = rate = channels = 0
    for block, block_rate in blocks:
        if not kept:
            rate, channels = block_rate, block.shape[1]
            _check_header(rate, channels, 0, limits)
            max_frames = _max_frames(rate, channels, limits)
        elif (block_rate, block.shape[1]) != (rate, channels):
            raise DecodeError("the audio's sampling rate or number of channels changes")
        frames += len(block)
        if frames > max_frames:
            raise _too_long(limits)
        kept.append(block)
    if not frames:
        raise DecodeError("the audio has no samples")
    return torch.from_numpy(np.concatenate(kept).T), rate


def _too_long(limits: Limits) -> DecodeError:
    return DecodeError(
        f"the audio is longer than {limits.audio_seconds} s"
        f" or {limits.audio_samples} samples in all channels"
    )
