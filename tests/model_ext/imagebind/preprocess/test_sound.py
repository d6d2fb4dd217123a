"""Long sounds are decoded piece by piece. The clips are those of the whole sound."""

import io
import os
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from model_ext.imagebind.preprocess import sound
from model_ext.imagebind.preprocess.audio import cut_clips
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.sndfile_sound import SndfileSound
from model_ext.imagebind.preprocess.sound import decode, open_sound
from model_ext.imagebind.preprocess.waveforms import LongSound, Waveform

SECONDS, RATE = 9, 44_100
SNDFILE = {
    **{"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_24"), "aiff": ("AIFF", "PCM_16")},
    **{"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", None)},
}
AV = {
    **{"m4a": ("ipod", "aac"), "alac": ("ipod", "alac"), "webm": ("webm", "libopus")},
    **{"adts": ("adts", "aac"), "wma": ("asf", "wmav2"), "mka": ("matroska", "flac")},
    **{"ts": ("mpegts", "aac"), "wavpack": ("wv", "wavpack"), "ac3": ("ac3", "ac3")},
}


def tones(seconds: float = SECONDS, rate: int = RATE) -> NDArray[np.float32]:
    """Samples (N, 2): a rising tone in the left channel and another one in the right channel."""
    t = np.arange(round(seconds * rate)) / rate
    left = np.sin(2 * np.pi * (200 * t + 60 * t**2))
    return (0.4 * np.stack([left, np.sin(2 * np.pi * 700 * t) * np.cos(t)], 1)).astype(np.float32)


def by_sndfile(kind: str, subtype: str | None) -> bytes:
    file, rate = io.BytesIO(), 48_000 if subtype == "OPUS" else RATE
    soundfile.write(file, tones(rate=rate), rate, subtype, format=kind)
    return file.getvalue()


def by_av(muxer: str, codec: str) -> bytes:
    file, rate = io.BytesIO(), 48_000 if codec == "libopus" else RATE
    with av.open(file, "w", format=muxer) as writer:
        stream = writer.add_stream(codec, rate=rate, layout="stereo")
        stream.bit_rate = 128_000
        context = stream.codec_context
        resampler = av.AudioResampler(
            format=context.format, layout="stereo", rate=rate, frame_size=context.frame_size or 0
        )
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(tones(rate=rate).T), format="fltp", layout="stereo"
        )
        frame.rate, frame.pts = rate, 0
        for each in (*resampler.resample(frame), *resampler.resample(None)):
            writer.mux(stream.encode(each))
        writer.mux(stream.encode(None))
    return file.getvalue()


# The times in these files are rounded to milliseconds, or are estimated.
ROUNDED = ("webm", "mka", "wma", "ac3")

FILES = dict.fromkeys(SNDFILE, by_sndfile) | dict.fromkeys(AV, by_av)


@pytest.fixture
def always_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_KEPT", 1)


@pytest.mark.usefixtures("always_long")
@pytest.mark.parametrize("name", FILES)
def test_the_clips_are_those_of_the_whole_sound(name: str) -> None:
    data = FILES[name](*(SNDFILE | AV)[name])
    samples, rate = decode(data, Limits())
    long = open_sound(data, Limits(), {})
    assert isinstance(long, LongSound)
    assert (long.rate, long.channels) == (rate, 2)
    shift = 2 * rate // 1000 if name in ROUNDED else 0
    assert abs(long.length - samples.shape[1]) <= shift
    if not shift:
        clips, expected = cut_clips(long), cut_clips(Waveform(samples, rate))
        # AAC decoders add random noise
        tolerance = 2e-3 if name in ("m4a", "adts", "ts") else 1e-5
        torch.testing.assert_close(clips, expected, rtol=0, atol=tolerance)
    for start in (0, long.length // 2, long.length - rate):
        piece = long.piece(start, start + rate)[:, shift : rate - shift]
        shifted = [
            samples[:, start + n : start + n + piece.shape[1]]
            for n in range(2 * shift + 1)
            if start + n + piece.shape[1] <= samples.shape[1]
        ]
        assert min(float((each - piece).abs().max()) for each in shifted) < 2e-3


@pytest.mark.usefixtures("always_long")
@pytest.mark.parametrize("name", ["wav", "mp3", "flac", "m4a", "adts"])
def test_a_long_sound_that_is_cut_off(name: str) -> None:
    """The header declares more samples than the file has."""
    data = FILES[name](*(SNDFILE | AV)[name])
    data = data[: len(data) * 2 // 3]
    try:
        samples, rate = decode(data, Limits())
    except DecodeError:
        with pytest.raises(DecodeError):
            open_sound(data, Limits(), {})
        return
    long = open_sound(data, Limits(), {})
    assert long.length == samples.shape[1]
    torch.testing.assert_close(
        cut_clips(long), cut_clips(Waveform(samples, rate)), rtol=0, atol=1e-4
    )


@pytest.mark.usefixtures("always_long")
def test_a_long_sound_that_cannot_seek_is_decoded_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = by_sndfile("WAV", "PCM_16")
    expected = cut_clips(open_sound(data, Limits(), {}))
    monkeypatch.setattr(SndfileSound, "_seek", lambda self, _: self._file.seek(0))
    assert torch.equal(cut_clips(open_sound(data, Limits(), {})), expected)


def test_an_mp3_has_no_gaps_between_blocks() -> None:
    """Regression: soundfile seeks after each block that it reads. The first samples of the next
    block of an mp3 were wrong.
    """
    data = by_sndfile("MP3", None)
    whole, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    samples, decoded_rate = decode(data, Limits())
    assert decoded_rate == rate
    np.testing.assert_allclose(samples.numpy().T, whole, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("always_long")
def test_limits_of_a_long_sound() -> None:
    data = by_av("adts", "aac")
    with pytest.raises(DecodeError, match="longer than 5 s"):
        open_sound(data, Limits(audio_seconds=5), {})


@pytest.mark.usefixtures("always_long")
def test_a_piece_with_values_that_are_no_numbers_is_refused() -> None:
    samples, file = tones(20), io.BytesIO()
    samples[5 * RATE] = np.nan
    soundfile.write(file, samples, RATE, "FLOAT", format="WAV")
    long = open_sound(file.getvalue(), Limits(), {})
    assert long.piece(0, 100).isfinite().all()
    with pytest.raises(DecodeError, match="not finite"):
        long.piece(5 * RATE - 10, 5 * RATE + 10)


def test_only_the_clips_of_a_long_file_are_read(tmp_path: Path) -> None:
    """An hour of silence, in a sparse file."""
    size, path = 3600 * 48_000 * 2, tmp_path / "hour.wav"
    soundfile.write(header := io.BytesIO(), np.zeros((1, 1)), 48_000, "PCM_16", format="WAV")
    head = bytearray(header.getvalue()[:44])
    head[4:8], head[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
    path.write_bytes(head)
    os.truncate(path, 44 + size)
    limits = Limits(audio_seconds=4000, audio_samples=1 << 40)
    with path.open("rb", buffering=0) as file:
        before = bytes_read()
        clips = cut_clips(open_sound(file, limits, {}))
        assert bytes_read() - before < 40e6
    assert clips.shape == (3, 32_000)


def bytes_read() -> int:
    """Return the number of bytes that this process has read."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(lines[0].removeprefix("rchar: "))


def test_an_open_file_is_decoded_like_its_bytes(tmp_path: Path) -> None:
    for name in ("wav", "m4a"):
        data = FILES[name](*(SNDFILE | AV)[name])
        (tmp_path / name).write_bytes(data)
        with (tmp_path / name).open("rb", buffering=0) as file:
            file.seek(1000)
            assert torch.equal(decode(file, Limits())[0], decode(data, Limits())[0])
