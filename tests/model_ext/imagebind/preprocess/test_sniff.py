from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_ext.imagebind.preprocess.sniff import NAMES, sniff
from tests.model_ext.imagebind.preprocess.containers import avi, grey_frames, matroska
from tests.model_ext.imagebind.preprocess.test_audio import sound
from tests.model_ext.imagebind.preprocess.test_image import saved as saved_image
from tests.model_ext.imagebind.preprocess.test_npy import saved as saved_array
from tests.model_ext.imagebind.preprocess.test_points import FORMATS


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("img_a.jpg", "image"),
        ("img_b.png", "image"),
        ("audio_a.wav", "audio"),
        ("audio_c.flac", "audio"),
        ("video_a.mp4", "video"),
        ("points_a.npy", "point"),
        ("points_c.ply", "point"),
    ],
)
def test_bytes_tell_without_a_name(name: str, modality: str, media: Path) -> None:
    data = (media / name).read_bytes()
    assert sniff(data) == modality
    assert sniff(data, "misleading.txt") == modality


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_images(kind: str) -> None:
    assert sniff(saved_image(Image.new("RGB", (9, 9)), kind)) == "image"


@pytest.mark.parametrize("kind", ["WAV", "RF64", "FLAC", "OGG", "MP3"])
def test_sounds(kind: str) -> None:
    assert sniff(sound(0.1, 44100, 1, kind)) == "audio"


def test_mp3_with_a_tag_and_without() -> None:
    assert sniff(b"ID3\x04\x00") == "audio"
    assert sniff(b"\xff\xfb\x90\x64") == "audio"
    for other in (b"\xff\xff\xff\xff", b"\xff\xfe\x00\x00", b"\xff\xfb"):
        assert sniff(other) is None  # files that are empty, are encoded in UTF-32, or are too short


def test_videos() -> None:
    assert sniff(avi(grey_frames(2), 10)) == "video"
    assert sniff(matroska(grey_frames(2), [0, 100], 200)) == "video"


@pytest.mark.parametrize("name", FORMATS)
def test_clouds(name: str) -> None:
    data = FORMATS[name]()
    assert sniff(data) == "point"


def rows(columns: int, form: str = "%.6f", count: int = 12, separator: str = " ") -> bytes:
    """Return a table of random numbers without header."""
    values = np.random.default_rng(0).normal(size=(count, columns))
    return b"".join(separator.join(form % v for v in row).encode() + b"\n" for row in values)


def beside(table: bytes, more: str) -> bytes:
    """Append columns to each row of a table."""
    return b"".join(line + b" " + more.encode() + b"\n" for line in table.splitlines())


TIMES = b"".join(b"%.2f " % (0.01 * n) + row + b"\n" for n, row in enumerate(rows(6).splitlines()))


@pytest.mark.parametrize(
    "data",
    [
        *(b"year,price,sold\n" + rows(3, separator=","), b"2024 10 11\nToday it rained.\n"),
        *(b"2024 10 11\n" * 20, b"2024\n" + b"10 11 12\n" * 20, b"42", b"42\n"),
        *(b"time,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n" + rows(7), rows(6), TIMES),
        *(rows(5), rows(3, count=7), rows(3, form="%d"), rows(3) + b"and so on\n"),
        *(b"o livro e a tv cara", b"g v 1", b"v for victory", b"# Notes\no tv \n"),
    ],
)
def test_texts_without_a_sign_of_a_cloud_are_not_recognized(data: bytes) -> None:
    """Regression: any table with three columns of numbers counted as a cloud."""
    assert sniff(data) is None
    assert sniff(data, "table.csv") is None
    assert sniff(data, "diary.txt") == "text"
    assert sniff(data, "cloud.xyz") == "point"


@pytest.mark.parametrize(
    "data",
    [
        *(rows(3), rows(4), rows(3, separator=","), b"12\n" + rows(3), b"x,y,z\n1,2,3\n"),
        *(b"//X Y Z\n" + rows(3, form="%d"), b"Label;X;Y;Z\n1;2;3;4\n", rows(3) + b"0.5 0.2"),
        *(beside(rows(3), "255 0 17"), beside(rows(3), "0.5 1 0"), beside(rows(3), "0.6 -0.8 0")),
        *(beside(rows(4), "0.6 -0.8 0"), beside(rows(3), "7 8 9 0.6 0 -0.8")),
        *(b"v 1 2 3\n", b"# made by hand\nmtllib a.mtl\no thing\nv -0.5 .2 1e-3\n"),
    ],
)
def test_texts_that_look_like_a_cloud(data: bytes) -> None:
    assert sniff(data) == "point"
    assert sniff(data, "cloud.txt") == "point"


@pytest.mark.parametrize("name", NAMES)
def test_a_cloud_without_a_signature_is_recognized_by_its_name(name: str) -> None:
    assert sniff(b"\x00\x01\x02", f"A Cloud{name.upper()}") == "point"


def test_torch_files_are_clouds_so_that_the_refusal_can_say_why(media: Path) -> None:
    data = (media / "points_b.pt").read_bytes()
    assert sniff(data, "points_b.pt") == "point"
    assert sniff(data) == "point"


def test_arrays_of_other_shapes_need_a_stated_modality() -> None:
    for shape in ((1, 224, 224), (6, 2000), (12,), (5, 4), (4, 6)):
        assert sniff(saved_array(np.zeros(shape, np.float32)), "depth.npy") is None


@pytest.mark.parametrize(
    "data",
    [b"", b"hello", b"%PDF-1.7", b"%!PS-Adobe", b"\x7fELF", b"<svg>", b"#EXTM3U", b"PK\x03\x04"],
)
def test_anything_else_is_unknown(data: bytes) -> None:
    assert sniff(data) is None
    assert sniff(data, "picture.jpg") is None
    assert sniff(data, "") is None


def test_text_is_known_by_name_only() -> None:
    assert sniff(b"hello", "notes.TXT") == "text"
