"""One small valid file of every attachment format, which `malformed` damages."""

import io
import struct
import zlib

import numpy as np
import soundfile
from PIL import Image

from tests.corpus import FOLDER
from tests.model_ext.imagebind.preprocess.containers import avi, grey_frames, matroska
from tests.server.media_files import media


def seeds() -> dict[str, bytes]:
    """Return the bytes of one file for each format. A key ends with the file's extension."""
    picture = Image.open(io.BytesIO(media("img_a.jpg"))).convert("RGB").resize((96, 72))
    frames = grey_frames(8)
    files = {"jpg": media("img_a.jpg"), "flac": sound("FLAC"), "wav": sound("WAV")}
    for name in ("PNG", "BMP", "TIFF", "WEBP"):
        files[name.lower()] = saved(picture, name)
    files["gif"] = saved(picture, "GIF", save_all=True, append_images=[picture] * 3)
    files["ogg"], files["mp3"] = sound("OGG"), sound("MP3")
    files["mp4"] = media("video_a.mp4")
    files["avi"] = avi(frames, 10)
    files["mkv"] = matroska(frames, range(0, 800, 100), 800)
    files |= clouds() | {"txt": b"A dog is running on the beach.", "imu": array((6, 2000))}
    return files | corpus_files()


def corpus_files() -> dict[str, bytes]:
    """One file of each format of tests/corpus.py, by names like "audio-alac.m4a"."""
    files = {}
    for path in sorted(FOLDER.glob("*-a-*")):
        modality, _, name = path.stem.split("-", 2)
        files[f"{modality}-{name}{path.suffix}"] = path.read_bytes()
    return files


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def sound(kind: str) -> bytes:
    file = io.BytesIO()
    wave = np.sin(np.arange(16000) / 20).astype(np.float32) * 0.5
    soundfile.write(file, wave, 16000, format=kind)
    return file.getvalue()


def array(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    return file.getvalue()


def clouds() -> dict[str, bytes]:
    points = np.random.default_rng(1).standard_normal((400, 3)).astype("<f4")
    lines = "\n".join("{} {} {}".format(*point) for point in points.tolist())
    ply = "ply\nformat {} 1.0\nelement vertex 400\nproperty float x\nproperty float y\n"
    ply += "property float z\nend_header\n"
    pcd = "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
    pcd += f"WIDTH 400\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 400\nDATA ascii\n{lines}\n"
    obj = "\n".join("v {} {} {}".format(*point) for point in points.tolist())
    return {
        "npy": array((400, 3)),
        "ply": ply.format("binary_little_endian").encode() + points.tobytes(),
        "ply-ascii": f"{ply.format('ascii')}{lines}\n".encode(),
        "pcd": pcd.encode(),
        "obj": obj.encode(),
        "xyz": lines.encode(),
    }


def bombs() -> dict[str, tuple[str, bytes]]:
    """Return small files that expand to a huge size, and playlists that refer to other files."""
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    gif = Image.new("P", (4000, 4000))
    many = saved(gif, "GIF", save_all=True, append_images=[gif] * 200)
    npy = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (%s, 3), }"
    return {
        "png of 50000 x 50000": ("png", png(head, zlib.compress(bytes(1 << 20)))),
        "png, good size, endless data": (
            "png",
            png(struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0), zlib.compress(bytes(1 << 26))),
        ),
        "gif of 200 large frames": ("gif", many),
        "ply of 10^12 points": (
            "ply",
            b"ply\nformat ascii 1.0\nelement vertex 1000000000000\nproperty float x\n"
            b"property float y\nproperty float z\nend_header\n0 0 0\n",
        ),
        "ply with an endless line": (
            "ply",
            b"ply\nformat ascii 1.0\nelement vertex 1000\nproperty float x\nproperty float y\n"
            b"property float z\nend_header\n" + b"1" * (1 << 22),
        ),
        "npy of 10^12 rows": ("npy", (npy % b"1000000000000").ljust(128) + bytes(64)),
        "npy of objects": ("npy", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (1, 3), }"),
        "pcd of 10^12 points": ("pcd", b"# .PCD v0.7\nPOINTS 1000000000000\nDATA binary\n"),
        "wav of 4 GB": (
            "wav",
            b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0\x80>\0\0\0}\0\0\x02\0\x10\0"
            b"data\xff\xff\xff\xff" + bytes(100),
        ),
        "flac of 2^36 samples": ("flac", b"fLaC\0\0\0\x22\x10\0\x10\0" + b"\xff" * 30),
        "hls playlist": ("avi", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"),
        "hls in an avi": ("avi", b"RIFF\0\0\0\0AVI #EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        "hls in an mp4": ("mp4", b"\0\0\0\x18ftypmp42#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
        "ffconcat": ("mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
        "ffconcat in an mkv": ("mkv", b"\x1a\x45\xdf\xa3ffconcat version 1.0\nfile /etc/passwd\n"),
        "sdp in an avi": ("avi", b"RIFF\0\0\0\0AVI \nv=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP 1\n"),
        "eps": ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run\n"),
        "svg": ("svg", b'<svg><image href="file:///etc/passwd"/></svg>'),
        "zip as torch": ("pt", b"PK\x03\x04" + bytes(100)),
        "text of one word, 64 KiB": ("txt", b"a" * 65_536),
        "text of broken utf-8": ("txt", b"\xff\xfe\xed\xa0\x80"),
    }


def png(header: bytes, data: bytes) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    body = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
