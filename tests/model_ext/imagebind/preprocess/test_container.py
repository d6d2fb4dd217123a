"""The reader passes a file to FFmpeg only if the file has the signature of a safe container.

Some of the hostile files are valid in two formats, one of which made decord open a UDP socket.
"""

from pathlib import Path

import pytest

from model_ext.imagebind.preprocess.container import container, is_video
from tests.model_ext.imagebind.preprocess.containers import avi, grey_frames, matroska

SESSION = (
    b"\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    b"m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)


def transport_stream(packets: int, first: bytes = b"") -> bytes:
    return b"G" + first.ljust(187, b"\n") + (b"G" + b"\n" * 187) * (packets - 1)


def test_containers_on_the_list(media: Path) -> None:
    frames = grey_frames(2)
    assert is_video((media / "video_a.mp4").read_bytes())
    assert is_video(avi(frames, 10))
    assert is_video(matroska(frames, [0, 100], 200))
    assert is_video(b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm\x42\x87\x81\x02")
    assert is_video(b"\x00\x00\x00\x08wide\x00\x00\x00\x08mdat")


def test_a_transport_stream_is_read_by_another_decoder() -> None:
    assert container(transport_stream(5)) == "mpegts"
    assert container(transport_stream(4)) != "mpegts"
    assert not is_video(transport_stream(5))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ffconcat version 1.0\nfile 'a.mp4'\n",
        b"#EXTM3U\n",
        b"<?xml version='1.0'?><MPD>",
        SESSION,
        b"\x1a\x45\xdf\xa3" + b"other EBML" * 9,
        b"RIFF\x00\x00\x00\x00WAVE",
        transport_stream(4),
        b"GIF89a" * 999,
        b"FLV\x01\x05\x00\x00\x00\x09",
        b"\x00\x00\x01\xba" * 999,
    ],
)
def test_anything_else_is_no_video(data: bytes) -> None:
    assert not is_video(data)


@pytest.mark.parametrize(
    "data",
    [
        transport_stream(20, SESSION),
        b"\x1a\x45\xdf\xa3" + SESSION + b"\n" * 500,
        b"\x1a\x45\xdf\xa3\x42\x82\x84webm" + SESSION + b"\n" * 500,
        b"RIFFaaaaAVI " + SESSION + b"\n" * 500,
        b"aaaaftyp" + SESSION + b"\n" * 500,
        b"aaaawide" + b"\n" * 100_000 + SESSION,
    ],
    ids=["mpegts", "ebml", "webm", "avi", "mp4", "far behind"],
)
def test_session_descriptions_do_not_hide_behind_a_signature(data: bytes) -> None:
    assert not is_video(data)
