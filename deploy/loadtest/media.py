"""Generate small test files: pictures, sounds, videos and point clouds.

A few files of each kind are generated once. `distinct` makes a new file from one of them by
changing bytes that no decoder reads. This takes almost no time, and the server has not cached the
new file.
"""

import io
import struct
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

POOL = 4  # Number of different files of each kind.
RATE = 16_000  # Samples per second of a sound.
MIME = {
    "image": "image/jpeg",
    "audio": "audio/wav",
    "video": "video/x-msvideo",
    "point_cloud": "application/octet-stream",
}


@dataclass(frozen=True, slots=True)
class Media:
    """Files by kind: image, audio, video, point_cloud, as in content parts (`image_url`, ...)."""

    files: dict[str, list[bytes]]

    @classmethod
    def make(cls, seed: int) -> "Media":
        rng = np.random.default_rng(seed)
        clips = [zoom(picture(rng, 160, 120), 24) for _ in range(POOL)]
        return cls(
            {
                "image": [jpeg(picture(rng, 320, 240)) for _ in range(POOL)],
                "audio": [wav(tone(rng, 3.0)) for _ in range(POOL)],
                "video": [avi([jpeg(frame) for frame in clip], 8) for clip in clips],
                "point_cloud": [npy(cloud(rng, 2048)) for _ in range(POOL)],
            }
        )

    def same(self, kind: str, rng: Random) -> bytes:
        """Return one of POOL files. After the first requests, the server has cached all of them."""
        return rng.choice(self.files[kind])

    def distinct(self, kind: str, rng: Random) -> bytes:
        """Return a new file that decodes like a file of the pool (except for one number of a point
        cloud).
        """
        data, salt = self.same(kind, rng), rng.randbytes(16)
        if kind == "image":  # change a comment after JPEG's start marker
            return data[:2] + b"\xff\xfe" + struct.pack(">H", 18) + salt + data[2:]
        if kind in ("audio", "video"):  # append a chunk that RIFF readers skip
            body = data[8:] + b"JUNK" + struct.pack("<I", 16) + salt
            return b"RIFF" + struct.pack("<I", len(body)) + body
        return data[:-4] + struct.pack("<f", rng.random())  # change the last coordinate


def picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return a picture of a few coloured areas, `width` x `height` pixels."""
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def zoom(image: Image.Image, frames: int) -> list[Image.Image]:
    """Return frames of a clip that zooms in: each frame omits one more pixel at each border."""
    width, height = image.size
    boxes = [
        (k, k * height // width, width - k, height - k * height // width) for k in range(frames)
    ]
    return [image.resize((width, height), box=box) for box in boxes]


def tone(rng: np.random.Generator, seconds: float) -> NDArray[np.float64]:
    """Return a sound of four sine waves: samples in [-1, 1], shape (seconds * RATE,)."""
    time = np.arange(int(seconds * RATE)) / RATE
    pitches = rng.uniform(100, 3000, 4)
    waves: NDArray[np.float64] = np.sin(2 * np.pi * pitches[:, None] * time).mean(axis=0)
    return waves


def cloud(rng: np.random.Generator, points: int) -> NDArray[np.float32]:
    """Return points on an ellipsoid, (points, 3)."""
    sphere = rng.standard_normal((points, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    return (sphere * rng.uniform(0.2, 1, 3)).astype(np.float32)


def jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def wav(samples: NDArray[np.float64]) -> bytes:
    """Return a WAV file with one channel of 16 bits."""
    data = (samples * 32767).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    return riff(b"WAVE", chunk(b"fmt ", form) + chunk(b"data", data))


def npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def avi(frames: list[bytes], rate: int) -> bytes:
    """Return an AVI file (Motion JPEG): one chunk per frame, and an index. `rate` in frames/s."""
    width, height = Image.open(io.BytesIO(frames[0])).size
    count, largest = len(frames), max(map(len, frames))
    head = struct.pack(
        "<14I",
        1_000_000 // rate,
        largest * rate,
        0,
        0x10,
        count,
        0,
        1,
        largest,
        width,
        height,
        *[0] * 4,
    )
    stream = b"vids" + b"MJPG" + struct.pack("<10I", 0, 0, 0, 1, rate, 0, count, largest, 0, 0)
    stream += struct.pack("<4h", 0, 0, width, height)
    form = struct.pack("<IiiHH", 40, width, height, 1, 24) + b"MJPG"
    form += struct.pack("<IiiII", 3 * width * height, 0, 0, 0, 0)
    streams = list_chunk(b"strl", chunk(b"strh", stream) + chunk(b"strf", form))
    header = list_chunk(b"hdrl", chunk(b"avih", head) + streams)
    pieces = [chunk(b"00dc", frame) for frame in frames]
    offsets = np.cumsum([4, *map(len, pieces)])
    index = b"".join(
        b"00dc" + struct.pack("<III", 0x10, offset, len(frame))
        for offset, frame in zip(offsets, frames, strict=False)
    )
    return riff(b"AVI ", header + list_chunk(b"movi", b"".join(pieces)) + chunk(b"idx1", index))


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a RIFF chunk, padded to an even length."""
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def list_chunk(name: bytes, data: bytes) -> bytes:
    return chunk(b"LIST", name + data)


def riff(kind: bytes, data: bytes) -> bytes:
    return chunk(b"RIFF", kind + data)
