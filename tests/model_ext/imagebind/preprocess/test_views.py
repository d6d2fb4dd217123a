"""The views of files for side models: whole sounds and pictures."""

import io

import numpy as np
import pytest
import soundfile
from faster_whisper.audio import decode_audio
from PIL import Image

from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.speech import SpeechSamples
from model_ext.imagebind.preprocess.views import MAX_SIDE, PICTURES, SOUND, read_view
from tests.corpus import FOLDER
from tests.server.media_files import media
from tests.speech import FACT

LIMITS = Limits()


def wav(samples: np.ndarray, rate: int, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype=subtype)
    return file.getvalue()


def test_a_sound_at_16_khz_is_unchanged() -> None:
    samples, _ = soundfile.read(FACT, dtype="int16")
    np.testing.assert_array_equal(read_view(SOUND, "audio", FACT.read_bytes(), LIMITS), samples)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (48_000, 1), (8000, 2)])
def test_a_whole_sound_is_that_of_faster_whisper(rate: int, channels: int) -> None:
    """The samples equal those of faster-whisper's own decoder, up to 4 units. The decoder uses
    FFmpeg, and rounds to 16 bits when it mixes channels.
    """
    noise = np.random.default_rng(0).normal(0, 0.1, (rate * 2, channels))
    data = wav(noise, rate)
    expected = decode_audio(io.BytesIO(data)) * 32768
    found = read_view(SOUND, "audio", data, LIMITS).numpy()
    assert found.dtype == np.int16
    assert abs(len(found) - len(expected)) <= 1
    count = min(len(found), len(expected))
    np.testing.assert_allclose(found[:count], expected[:count], rtol=0, atol=4)


def test_consecutive_blocks_give_the_samples_of_the_whole() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (44_100, 2)).astype(np.float32)
    whole, blocks = SpeechSamples(44_100), SpeechSamples(44_100)
    parts = [blocks.add(part) for part in np.array_split(noise, 7)]
    np.testing.assert_array_equal(
        np.concatenate([*parts, blocks.end()]),
        np.concatenate([whole.add(noise), whole.end()]),
    )


def test_a_videos_sound_track_and_frames_are_read() -> None:
    recording = (FOLDER / "audio-a-webm.webm").read_bytes()
    assert len(read_view(SOUND, "video", recording, LIMITS)) > 8000
    assert read_view(PICTURES, "video", recording, LIMITS).numel() == 0
    video = media("video_a.mp4")
    frames = read_view(PICTURES, "video", video, LIMITS)
    assert frames.dtype.is_signed is False
    assert frames.shape[3] == 3
    assert len(frames) == 6
    assert read_view(SOUND, "video", video, LIMITS).numel() == 0


def test_pictures_are_upright_and_of_a_readable_size() -> None:
    image = Image.new("RGB", (2 * MAX_SIDE, 40), "red")
    image.putpixel((0, 0), (0, 255, 0))
    exif = Image.Exif()
    exif[274] = 6  # rotate by 270 degrees counterclockwise
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    assert read_view(PICTURES, "image", file.getvalue(), LIMITS).shape == (1, MAX_SIDE, 20, 3)
    small = read_view(PICTURES, "image", media("img_a.jpg"), LIMITS)
    with Image.open(io.BytesIO(media("img_a.jpg"))) as original:
        assert small.shape[1:3] == (original.height, original.width)


def test_files_without_a_view_are_empty_and_bad_ones_are_errors() -> None:
    assert read_view(PICTURES, "audio", FACT.read_bytes(), LIMITS).numel() == 0
    assert read_view(SOUND, "text", b"hello", LIMITS).numel() == 0
    with pytest.raises(DecodeError):
        read_view(SOUND, "audio", b"RIFF no sound", LIMITS)
    with pytest.raises(DecodeError, match="longer"):
        read_view(SOUND, "audio", wav(np.zeros(32_000), 16_000), Limits(audio_seconds=1))
