"""Decode sound files into three normalised log mel spectrograms (3, 1, 128, 204)."""

from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from model_ext.imagebind.preprocess.channels import choose_channel
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.fbank import RATE, WINDOW, log_mel
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Channels, Notes, ReadOptions
from model_ext.imagebind.preprocess.resample import Resampler
from model_ext.imagebind.preprocess.sound import open_sound
from model_ext.imagebind.preprocess.source import Source
from model_ext.imagebind.preprocess.waveforms import Sound, Waveform

CLIPS = 3
CLIP_SECONDS = 2
MEAN, STD = -4.268, 9.138


def read_audio(
    source: Source,
    config: PreprocessConfig,
    limits: Limits,
    options: ReadOptions = DEFAULT_OPTIONS,
    notes: Notes | None = None,
) -> Tensor:
    """Decode audio to spectrograms (3, 1, mel bins, target length), float32."""
    notes = {} if notes is None else notes
    clips = cut_clips(open_sound(source, limits, notes), options.channels, notes)
    features = log_mel(clips, config.mel_bins).transpose(1, 2)
    # As in the released model, pad before normalising: padded cells are log(1) = 0 before
    # normalisation.
    features = F.pad(features, (0, max(0, config.target_length - features.shape[2])))
    features = (features[:, None, :, : config.target_length] - MEAN) / STD
    if not features.isfinite().all():
        raise DecodeError("the audio has samples that are too large")
    return features


def cut_clips(sound: Sound, channels: Channels = "first", notes: Notes | None = None) -> Tensor:
    """Resample to 16 kHz and cut three clips: one channel of the clips (3, n).

    Subtracts each clip's mean (over samples and channels) in place, in the waveform that all clips
    share, as the released code does. If clips overlap, the later clip therefore contains samples
    that were already changed.
    """
    notes = {} if notes is None else notes
    resampler = Resampler(sound.rate, RATE)
    if resampler.length(sound.length) < WINDOW:
        missing = -(-WINDOW * sound.rate // RATE) - sound.length
        sound = Waveform(F.pad(sound.piece(0, sound.length), (0, missing)), sound.rate)
        notes["padded_to_ms"] = WINDOW * 1000 // RATE
    parts = clip_bounds(resampler.length(sound.length))
    bounds = without_gaps(parts)
    shared = torch.zeros(sound.channels, bounds[-1][1])
    for (start, stop), part in zip(bounds, parts, strict=True):
        shared[:, start:stop] = _resampled(sound, resampler, *part)
    if channels == "mean":
        shared = shared.mean(0, keepdim=True)
    channel = choose_channel(shared, channels, notes)
    clips = []
    for start, stop in bounds:
        shared[:, start:stop] -= shared[:, start:stop].mean()
        clips.append(shared[channel, start:stop].clone())
    return torch.stack(clips)


def _resampled(sound: Sound, resampler: Resampler, start: int, stop: int) -> Tensor:
    """Return the samples start..stop at 16 kHz, (channels, stop - start)."""
    if sound.rate == RATE:
        return sound.piece(start, stop)
    first, last, skipped = resampler.needed(start, stop)
    piece = sound.piece(first, min(last, sound.length))
    return resampler.stretch(piece, start - skipped, stop - skipped)


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


def without_gaps(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the start and end of each part after the samples between the parts are removed."""
    moved, removed, end = [], 0, 0
    for start, stop in parts:
        removed += max(0, start - end)
        moved.append((start - removed, stop - removed))
        end = stop
    return moved
