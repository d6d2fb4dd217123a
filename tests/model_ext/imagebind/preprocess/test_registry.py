import io
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from model_ext.imagebind.config import ENCODER_OF, ImageBindConfig
from model_ext.imagebind.preprocess.av_file import opened
from model_ext.imagebind.preprocess.av_video import AvVideo
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import READERS, preprocess


def test_every_attachment_modality_has_a_reader() -> None:
    assert READERS.keys() == ENCODER_OF.keys()


@pytest.mark.parametrize("modality", READERS)
def test_size_is_checked_before_anything_is_read(modality: str) -> None:
    limits = Limits(
        image_bytes=9, audio_bytes=9, video_bytes=9, cloud_bytes=9, array_bytes=9, text_bytes=9
    )
    with pytest.raises(DecodeError, match="larger than the 9 bytes allowed"):
        preprocess(modality, b"x" * 10, limits=limits)


def test_size_is_checked_before_a_container_is_opened(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the container was opened, to check whether it has pictures, before the size was
    checked.
    """
    monkeypatch.setattr(av, "open", lambda *_, **__: pytest.fail("was opened"))
    data = (media / "video_a.mp4").read_bytes()
    with pytest.raises(DecodeError, match="larger than the 9 bytes allowed"):
        preprocess("video", data, limits=Limits(video_bytes=9))


def test_codecs_that_are_not_listed_are_not_decoded_when_a_file_is_opened() -> None:
    """Regression: when FFmpeg opened a file, it decoded the first frames with any codec."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as writer:
        stream = writer.add_stream("png", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        picture = av.VideoFrame.from_image(Image.new("RGB", (64, 48)))
        writer.mux([*stream.encode(picture), *stream.encode(None)])
    with opened(file.getvalue(), "avi", "damaged") as reader:
        context = reader.streams.video[0].codec_context
        # FFmpeg has not decoded a frame, because the pixel format is unknown
        assert (context.name, context.pix_fmt) == ("png", None)
    with pytest.raises(DecodeError, match="has the codec png, which is not read"):
        AvVideo(file.getvalue(), "avi", Limits()).timeline()


@pytest.mark.parametrize("modality", sorted(READERS.keys() - {"text"}))
@pytest.mark.parametrize("data", [b"", b"x", b"\x00" * 64, b"hello " * 50])
def test_nonsense_is_a_decode_error(modality: str, data: bytes) -> None:
    with pytest.raises(DecodeError):
        preprocess(modality, data)


def test_text_takes_any_utf8() -> None:
    assert preprocess("text", b"").dtype == torch.int64


def test_unknown_modality_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError):
        preprocess("smell", b"")


def test_sizes_come_from_the_model() -> None:
    assert PreprocessConfig.of(ImageBindConfig.released()) == PreprocessConfig()
    released = ImageBindConfig.released()
    assert released.vision is not None
    assert released.point is not None
    model = replace(
        released,
        vision=replace(released.vision, image_size=112, patch_size=16, frames=1),
        point=replace(released.point, group_size=8),
        audio=None,
    )
    config = PreprocessConfig.of(model)
    assert (config.image_size, config.frames, config.min_points) == (112, 1, 8)
    assert config.mel_bins == 128
