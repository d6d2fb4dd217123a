import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.imagebind.preprocess.audio import (
    clip_bounds,
    cut_clips,
    read_audio,
    without_gaps,
)
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes
from model_ext.imagebind.preprocess.sndfile_sound import SndfileSound
from model_ext.imagebind.preprocess.waveforms import Waveform, gather
from tests.model_ext.imagebind.preprocess.broken import bits_flipped, cut_off

NAMES = ("audio_a.wav", "audio_b.wav", "audio_c.flac")
PADDED = 4.268 / 9.138


def sound(
    seconds: float = 0.5,
    rate: int = 16000,
    channels: int = 1,
    kind: str = "WAV",
    subtype: str | None = None,
) -> bytes:
    generator = np.random.default_rng(0)
    samples = generator.uniform(-0.3, 0.3, (round(seconds * rate), channels)).astype(np.float32)
    return saved(samples, rate, kind, subtype)


def saved(
    samples: NDArray[np.float32], rate: int = 16000, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()


@pytest.mark.parametrize("name", NAMES)
def test_released_features(
    name: str, media: Path, golden_inputs: dict[str, Tensor], config: PreprocessConfig
) -> None:
    features = read_audio((media / name).read_bytes(), config, Limits())
    assert features.shape == (3, 1, 128, 204)
    assert features.dtype == torch.float32
    clip, sub = golden_inputs[f"{name}/clip0"], golden_inputs[f"{name}/sub"]
    torch.testing.assert_close(features[0], clip, rtol=0, atol=1e-5)
    torch.testing.assert_close(features[:, :, ::4, ::3], sub, rtol=0, atol=1e-5)


def test_clip_bounds_are_exact() -> None:
    assert clip_bounds(52800) == [(0, 32000), (10399, 42399), (20799, 52799)]
    assert clip_bounds(80000) == [(0, 32000), (24000, 56000), (48000, 80000)]
    assert clip_bounds(19200) == [(0, 19200)] * 3
    for samples in range(400, 200_000, 997):
        bounds = clip_bounds(samples)
        assert len({stop - start for start, stop in bounds}) == 1
        assert bounds[0][0] == 0
        assert bounds[-1][1] in (samples, samples - 1)


def test_samples_between_the_clips_are_removed() -> None:
    assert without_gaps([(0, 20), (10, 30), (20, 40)]) == [(0, 20), (10, 30), (20, 40)]
    assert without_gaps([(0, 20), (30, 50), (60, 80)]) == [(0, 20), (20, 40), (40, 60)]


def test_means_are_removed_one_clip_after_the_other() -> None:
    """Where clips overlap, the mean of the earlier clip is already subtracted from the samples."""
    generator = torch.Generator().manual_seed(0)
    waveform = torch.randn(2, 40000, generator=generator) * 0.1 + torch.tensor([[0.3], [0.5]])
    shared = waveform.double().numpy().copy()
    duration = Fraction(40000, 16000)
    expected = []
    for clip in range(3):
        start = int(clip * (duration - 2) / 2 * 16000)
        shared[:, start : start + 32000] -= shared[:, start : start + 32000].mean()
        expected.append(shared[0, start : start + 32000].copy())
    clips = cut_clips(Waveform(waveform.clone(), 16000))
    np.testing.assert_allclose(clips.numpy(), np.stack(expected), atol=1e-6)
    assert abs(clips[0].mean() + 0.1) < 0.01, "the subtracted mean must be the mean of all channels"


def test_the_callers_waveform_is_left_alone() -> None:
    waveform = torch.randn(1, 40000) + 1
    before = waveform.clone()
    cut_clips(Waveform(waveform, 16000))
    assert torch.equal(waveform, before)


def test_short_clips_are_padded_before_normalising(config: PreprocessConfig) -> None:
    features = read_audio(sound(0.5), config, Limits())
    frames = 1 + (8000 - 400) // 160
    assert features[..., frames:].flatten().allclose(torch.tensor(PADDED))
    assert not features[..., frames - 1].allclose(torch.tensor(PADDED))


def test_reduced_spectrogram() -> None:
    config = PreprocessConfig(mel_bins=64, target_length=100)
    assert read_audio(sound(3), config, Limits()).shape == (3, 1, 64, 100)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_U8"),
        ("WAV", "FLOAT"),
        ("WAV", "DOUBLE"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_every_allowed_format_sounds_alike(
    kind: str, subtype: str, config: PreprocessConfig
) -> None:
    reference = read_audio(sound(1, 48000, 2, "WAV", "DOUBLE"), config, Limits())
    features = read_audio(sound(1, 48000, 2, kind, subtype), config, Limits())
    assert features.shape == (3, 1, 128, 204)
    assert (features - reference).abs()[..., :90].mean() < 0.1


@pytest.mark.parametrize("kind", ["VOC", "XI"])
def test_formats_off_the_list_are_refused(kind: str, config: PreprocessConfig) -> None:
    with pytest.raises(DecodeError, match="unknown format"):
        read_audio(sound(kind=kind, subtype="DPCM_16" if kind == "XI" else None), config, Limits())


@pytest.mark.parametrize("rate", [1000, 8000, 44101, 96000, 192_000])
def test_odd_rates_and_channels(rate: int, config: PreprocessConfig) -> None:
    assert read_audio(sound(1, rate, 5), config, Limits()).isfinite().all()


@pytest.mark.parametrize(("samples", "rate"), [(1, 16000), (399, 16000), (1, 48000), (200, 11025)])
def test_less_than_25_ms_is_padded_with_zeros(
    samples: int, rate: int, config: PreprocessConfig
) -> None:
    short = np.full((samples, 1), 0.5, np.float32)
    padded = np.concatenate([short, np.zeros((-(-rate // 40) - samples, 1), np.float32)])
    notes: Notes = {}
    features = read_audio(saved(short, rate=rate), config, Limits(), notes=notes)
    assert notes["padded_to_ms"] == 25
    assert torch.equal(features, read_audio(saved(padded, rate=rate), config, Limits()))


def test_a_sound_without_samples_is_refused(config: PreprocessConfig) -> None:
    with pytest.raises(DecodeError, match="no samples"):
        read_audio(sound(0), config, Limits())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(value: float, config: PreprocessConfig) -> None:
    samples = np.zeros((8000, 1), np.float32)
    samples[5000] = value
    with pytest.raises(DecodeError, match="not finite"):
        read_audio(saved(samples, subtype="FLOAT"), config, Limits())


def test_huge_samples_are_refused(config: PreprocessConfig) -> None:
    samples = np.zeros((8000, 1), np.float32)
    samples[5000] = 1e30
    with pytest.raises(DecodeError, match="too large"):
        read_audio(saved(samples, subtype="FLOAT"), config, Limits())


def test_silence_is_accepted(config: PreprocessConfig) -> None:
    assert read_audio(saved(np.zeros((8000, 1), np.float32)), config, Limits()).isfinite().all()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(audio_seconds=1), "longer than 1 s"),
        (Limits(audio_samples=63_999), "63999 samples"),
        (Limits(audio_channels=1), "more than 1 channels"),
        (Limits(audio_rate=8000), r"1000\.\.8000 Hz"),
    ],
)
def test_limits(limits: Limits, message: str, config: PreprocessConfig) -> None:
    with pytest.raises(DecodeError, match=message):
        read_audio(sound(2, 16000, 2), config, limits)


def test_declared_length_is_checked_before_decoding(config: PreprocessConfig) -> None:
    """The reader rejects a FLAC header that declares 2^36 - 1 samples (38 days)."""
    data = bytearray(sound(1, kind="FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    with pytest.raises(DecodeError, match="longer than 600 s"):
        read_audio(bytes(data), config, Limits())


def test_a_length_need_not_be_declared(config: PreprocessConfig) -> None:
    """libsndfile cannot read a FLAC file whose header has no length from memory, but PyAV can."""
    data = bytearray(sound(3, kind="FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    features = read_audio(sound(3, kind="FLAC"), config, Limits())
    assert torch.equal(read_audio(bytes(data), config, Limits()), features)
    with pytest.raises(DecodeError, match="longer than 1 s"):
        read_audio(bytes(data), config, Limits(audio_seconds=1))


class EndlessFile:
    samplerate, channels = 16000, 2

    def __init__(self) -> None:
        self.frames_read = 0

    def read(self, frames: int, **_: object) -> NDArray[np.float32]:
        self.frames_read += frames
        return np.zeros((frames, 2), np.float32)


def test_actual_length_is_counted_whatever_is_declared() -> None:
    file = EndlessFile()
    with pytest.raises(DecodeError, match="longer than 10 s"):
        gather(SndfileSound(file).blocks(), Limits(audio_seconds=10))
    assert file.frames_read < 4 * 160_000


@pytest.mark.parametrize("name", NAMES)
def test_broken_files_give_features_or_a_decode_error(
    name: str, media: Path, config: PreprocessConfig
) -> None:
    data = (media / name).read_bytes()
    for damaged in [*cut_off(data), *bits_flipped(data, copies=10), *bits_flipped(data[:4096], 20)]:
        try:
            features = read_audio(damaged, config, Limits())
        except DecodeError as error:
            assert str(error).startswith("the audio ")  # noqa: PT017
        else:
            assert features.shape == (3, 1, 128, 204)
            assert features.isfinite().all()
