"""Decode sound files into three normalised log mel spectrograms (3, 1, 128, 204).

The library libsndfile reads wav, flac, ogg and mp3 from memory. This module accepts any number of
channels, and all rates that the limits allow.
"""

import io
from fractions import Fraction

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.fbank import RATE, WINDOW, log_mel
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.resample import Resampler
from model_ext.imagebind.preprocess.sniff import is_audio

CLIPS = 3
CLIP_SECONDS = 2
MEAN, STD = -4.268, 9.138
BLOCK = 65_536  # number of frames that are read at a time.
# If a FLAC header has no length, libsndfile reports a number of frames above `UNKNOWN`.
UNKNOWN = 2**62

DAMAGED = "the audio is damaged or not wav, flac, ogg or mp3"


def read_audio(data: bytes, config: PreprocessConfig, limits: Limits) -> Tensor:
    """Decode audio to spectrograms (3, 1, mel bins, target length), float32."""
    waveform, rate = decode(data, limits)
    clips = cut_clips(waveform, rate)
    features = log_mel(clips, config.mel_bins).transpose(1, 2)
    # As in the released model, padding is added before normalisation: padded cells have the value
    # log(1) = 0, which is then normalised.
    features = F.pad(features, (0, max(0, config.target_length - features.shape[2])))
    features = (features[:, None, :, : config.target_length] - MEAN) / STD
    if not features.isfinite().all():
        raise DecodeError("the audio has samples that are too large")
    return features


def decode(data: bytes, limits: Limits) -> tuple[Tensor, int]:
    """Decode the file: samples (channels, N) in [-1, 1), and the sampling rate.

    Raises DecodeError.
    """
    if not is_audio(data):
        raise DecodeError(DAMAGED)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels, declared = file.samplerate, file.channels, file.frames
            _check_header(rate, channels, declared, limits)
            samples = _read(file, limits)
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError):
        raise DecodeError(DAMAGED) from None
    if not np.isfinite(samples).all():
        raise DecodeError("the audio has samples that are not finite numbers")
    return torch.from_numpy(samples.T), rate


def cut_clips(waveform: Tensor, rate: int) -> Tensor:
    """Resample to 16 kHz and cut clips: (channels, N) -> first channel of three clips (3, n).

    Each clip has zero mean.

    The released code subtracts each clip's mean (over samples and channels) in place, in the
    waveform that all clips share. If clips overlap, the later clip therefore contains samples that
    were already shifted. This function does the same, because the result differs for files with a
    constant offset.
    """
    resampler = Resampler(rate, RATE)
    length = resampler.length(waveform.shape[1])
    if length < WINDOW:
        raise DecodeError("the audio is shorter than 25 ms")
    bounds = clip_bounds(length)
    shared = waveform.new_zeros(len(waveform), length)
    for start, stop in bounds:
        shared[:, start:stop] = (
            waveform[:, start:stop] if rate == RATE else resampler.stretch(waveform, start, stop)
        )
    clips = []
    for start, stop in bounds:
        shared[:, start:stop] -= shared[:, start:stop].mean()
        clips.append(shared[0, start:stop].clone())
    return torch.stack(clips)


def clip_bounds(samples: int) -> list[tuple[int, int]]:
    """The first and last sample of each clip.

    Clips are evenly spaced; the last clip ends with the file.

    In a file of less than 2 s, each clip is the whole file. Computed in rational numbers, because
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
    if frames >= UNKNOWN:
        raise DecodeError("the audio's header does not contain its length")
    if frames > _max_frames(rate, channels, limits):
        raise _too_long(limits)


def _max_frames(rate: int, channels: int, limits: Limits) -> int:
    return min(rate * limits.audio_seconds, limits.audio_samples // channels)


def _read(file: soundfile.SoundFile, limits: Limits) -> NDArray[np.float32]:
    """Read all frames (N, channels), and count them, because the header may declare fewer."""
    max_frames = _max_frames(file.samplerate, file.channels, limits)
    blocks = [np.empty((0, file.channels), np.float32)]
    frames = 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        frames += len(block)
        if frames > max_frames:
            raise _too_long(limits)
        blocks.append(block)
    return np.concatenate(blocks)


def _too_long(limits: Limits) -> DecodeError:
    return DecodeError(
        f"the audio is longer than {limits.audio_seconds} s"
        f" or {limits.audio_samples} samples in all channels"
    )
