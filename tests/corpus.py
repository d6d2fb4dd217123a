"""Make files in the formats that phones, browsers, scanners and data sets write.

    python -m tests.corpus

This command writes the folder tests/fixtures/corpus. It has two files of each format, with the
contents a and b. A file's name is MODALITY-CONTENT-FORMAT.EXTENSION. `LOSSY` lists the lossy
formats. PyAV, Pillow, soundfile, trimesh and laspy encode the files. HEIC files need the package
pillow-heif, which is not a dependency of the tests. Without this package, the committed HEIC files
stay unchanged.
"""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import av
import laspy
import numpy as np
import soundfile
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.sample import sample_surface

FOLDER = Path(__file__).parent / "fixtures" / "corpus"
RATE = 16_000
CONTENTS = ("a", "b")
DOCUMENT = Path(__file__).parents[1] / "docs" / "formats.md"
HEAD = """`python -m tests.corpus` writes this list. The tests decode two files of each format.
The server recognizes a format by the content of the file, not by its name. It also reads other
files in the same containers with the codecs of `model_ext/imagebind/preprocess/av_file.py`, and
rejects all other files with an error that names the kind of the file if its signature is known."""

Waveform = NDArray[np.float32]  # shape (N, channels)

# name -> (muxer, codec, extension)
AV_SOUNDS = {
    "aac": ("ipod", "aac", "m4a"),
    "alac": ("ipod", "alac", "m4a"),
    "adts": ("adts", "aac", "aac"),
    "webm": ("webm", "libopus", "webm"),
    "wma": ("asf", "wmav2", "wma"),
    "caf-alac": ("caf", "alac", "caf"),
    "mka": ("matroska", "flac", "mka"),
    "ac3": ("ac3", "ac3", "ac3"),
    "mp2": ("mp2", "mp2", "mp2"),
    "wavpack": ("wv", "wavpack", "wv"),
    "ogg-flac": ("ogg", "flac", "ogg"),
    "amr": ("amr", "libopencore_amrnb", "amr"),
    "ts": ("mpegts", "aac", "ts"),
}
# name -> libsndfile's format and subtype
SOUNDS = {
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "mulaw": ("WAV", "ULAW"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", None),
}
# name -> (muxer, codec, extension)
VIDEOS = {
    "ts": ("mpegts", "mpeg2video", "ts"),
    "mpg": ("mpeg", "mpeg1video", "mpg"),
    "wmv": ("asf", "wmv2", "wmv"),
    "flv": ("flv", "flv1", "flv"),
    "webm": ("webm", "libvpx", "webm"),
    "vp9": ("webm", "libvpx-vp9", "webm"),
    "mkv": ("matroska", "libx264", "mkv"),
    "hevc": ("mp4", "libx265", "mp4"),
    "mov": ("mov", "mjpeg", "mov"),
    "avi": ("avi", "mpeg4", "avi"),
    "m2v": ("mpeg2video", "mpeg2video", "m2v"),
    "3gp": ("3gp", "h263", "3gp"),
    "ogv": ("ogg", "libvpx", "ogv"),
}
# name -> Pillow's format and options
PICTURES: dict[str, tuple[str, dict[str, object]]] = {
    "avif": ("AVIF", {"quality": 90}),
    "jp2": ("JPEG2000", {}),
    "ppm": ("PPM", {}),
    "tga": ("TGA", {}),
    "ico": ("ICO", {"sizes": [(96, 96)]}),
    "pcx": ("PCX", {}),
    "sgi": ("SGI", {}),
    "qoi": ("QOI", {}),
    "webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "bmp": ("BMP", {}),
}
LOSSY = {
    "audio": {"aac", "adts", "webm", "wma", "ac3", "mp2", "amr", "ts", "mulaw", "opus", "mp3"},
    "video": set(VIDEOS),
    "image": {"avif", "heic", "gif"},
}


def waveform(content: str) -> Waveform:
    """One second of sound (N, 1) with noise: content a is a rising tone, content b is four bell
    strokes.
    """
    t = np.arange(RATE) / RATE
    if content == "a":
        wave = np.sin(2 * np.pi * (300 * t + 500 * t**2))
    else:
        wave = np.sin(2 * np.pi * 1200 * t) * np.exp(-6 * (t % 0.25))
    noise = np.random.default_rng(0).standard_normal(RATE) * 0.02
    return (0.5 * wave * np.minimum(1, 50 * (1 - t)) + noise).astype(np.float32)[:, None]


def picture(content: str, shift: int = 0, size: int = 96) -> Image.Image:
    """Return a smooth picture: disks on a gradient. `shift` moves the disks (for videos)."""
    y, x = np.mgrid[0:size, 0:size] / size
    u, v = (0.3 + shift / 100, 0.4) if content == "a" else (0.6, 0.7 - shift / 100)
    disk = 1 / (1 + np.exp(40 * (np.hypot(x - u, y - v) - 0.2)))
    red, green, blue = (disk, x, y) if content == "a" else (y, 1 - disk, x * y)
    rgb = np.stack([red, green, blue], -1) * 255
    return Image.fromarray(rgb.round().astype(np.uint8))


def encode_sound(content: str, muxer: str, codec: str) -> bytes:
    rate = 48_000 if codec in ("libopus", "ac3", "mp2") else 8000 if "amr" in codec else RATE
    out = io.BytesIO()
    with av.open(out, "w", format=muxer) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 12_200 if "amr" in codec else 64_000
        context = stream.codec_context
        resampler = av.AudioResampler(
            format=context.format, layout="mono", rate=rate, frame_size=context.frame_size or 0
        )
        frame = av.AudioFrame.from_ndarray(waveform(content).T.copy(), format="flt", layout="mono")
        frame.rate, frame.pts = RATE, 0
        for each in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(each))
        file.mux(stream.encode(None))
    return out.getvalue()


def encode_video(
    content: str, muxer: str, codec: str, *, rate: int = 25, frames: int = 20
) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=muxer) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height = (176, 144) if codec == "h263" else (96, 96)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 400_000
        stream.codec_context.thread_count = 1
        for index in range(frames):
            image = picture(content, index).resize((stream.width, stream.height))
            file.mux(stream.encode(av.VideoFrame.from_image(image)))
        file.mux(stream.encode(None))
    return out.getvalue()


def save_sound(content: str, kind: str, subtype: str | None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform(content), RATE, subtype, format=kind)
    return file.getvalue()


def save_picture(content: str, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture(content).save(file, kind, **options)
    return file.getvalue()


def heic(content: str) -> bytes | None:
    try:
        import pillow_heif
    except ImportError:
        return None
    file = io.BytesIO()
    pillow_heif.from_pillow(picture(content)).save(file, quality=90)
    return file.getvalue()


def mesh(content: str) -> trimesh.Trimesh:
    if content == "a":
        return trimesh.creation.torus(0.7, 0.25, major_sections=24, minor_sections=12)
    return trimesh.creation.cone(0.5, 1, sections=24)


def points(content: str, count: int = 600) -> NDArray[np.float32]:
    """Return points (count, 3) on the surface of `mesh`."""
    cloud, _ = sample_surface(mesh(content), count, seed=1)
    return np.asarray(cloud, np.float32)


def saved_array(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def table(content: str, separator: str, header: str = "", columns: int = 3) -> bytes:
    """Return a text file with one point per row: x, y and z, then columns with colors."""
    cloud = points(content)
    colors = np.tile(np.arange(columns - 3) + 100, (len(cloud), 1))
    rows = [
        separator.join([*(f"{value:.6f}" for value in xyz), *map(str, color)])
        for xyz, color in zip(cloud.tolist(), colors.tolist(), strict=True)
    ]
    return (header + "\n".join(rows) + "\n").encode()


def las(content: str, compressed: bool) -> bytes:
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.scales = np.full(3, 1e-5)
    file, data = io.BytesIO(), laspy.LasData(header)
    data.x, data.y, data.z = points(content).T.astype(np.float64)
    data.write(file, do_compress=compressed)
    return file.getvalue()


def compressed_pcd(content: str) -> bytes:
    """A compressed .pcd file, as PCL writes by default. The LZF data contain only literal runs of
    bytes, and no references to earlier bytes.
    """
    values = points(content).T.astype("<f4").tobytes()
    runs = [values[start : start + 32] for start in range(0, len(values), 32)]
    packed = b"".join(bytes([len(run) - 1]) + run for run in runs)
    count = len(points(content))
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        f"WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\n"
        "DATA binary_compressed\n"
    )
    return header.encode() + struct.pack("<II", len(packed), len(values)) + packed


def faces_first_ply(content: str) -> bytes:
    cloud = points(content)
    header = (
        "ply\nformat binary_little_endian 1.0\nelement face 20\n"
        "property list uchar int vertex_indices\nproperty uchar flags\n"
        f"element vertex {len(cloud)}\n"
        "property float x\nproperty float y\nproperty float z\nend_header\n"
    )
    faces = b"".join(struct.pack("<B3iB", 3, n, n + 1, n + 2, 0) for n in range(20))
    return header.encode() + faces + cloud.astype("<f4").tobytes()


def with_nans(content: str) -> bytes:
    cloud = points(content)
    cloud[::7] = np.nan
    return saved_array(cloud)


def archive(content: str) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, label=np.array(3), points=points(content))
    return file.getvalue()


def exported(content: str, kind: str) -> bytes:
    data = mesh(content).export(file_type=kind)
    return data.encode() if isinstance(data, str) else data


def clouds() -> dict[str, tuple[str, "Maker"]]:
    """format -> (extension, function that makes a file with content "a" or "b")"""
    return {
        "colors": ("npy", lambda c: saved_array(np.concatenate([points(c)] * 2, axis=1))),
        "batch": ("npy", lambda c: saved_array(points(c)[None])),
        "columns": ("npy", lambda c: saved_array(points(c).T)),
        "nan": ("npy", with_nans),
        "npz": ("npz", archive),
        "commas": ("txt", lambda c: table(c, ",", columns=6)),
        "rgb": ("txt", lambda c: table(c, " ", columns=6)),
        "names": ("csv", lambda c: table(c, ";", header="x;y;z;label\n", columns=4)),
        "compare": ("txt", lambda c: table(c, " ", header="//X Y Z\n")),
        "off": ("off", lambda c: exported(c, "off")),
        "stl": ("stl", lambda c: exported(c, "stl")),
        "stl-ascii": ("stl", lambda c: exported(c, "stl_ascii")),
        "glb": ("glb", lambda c: exported(c, "glb")),
        "las": ("las", lambda c: las(c, False)),
        "laz": ("laz", lambda c: las(c, True)),
        "pcd": ("pcd", compressed_pcd),
        "ply": ("ply", faces_first_ply),
    }


Maker = Callable[[str], bytes | None]


def makers() -> dict[tuple[str, str, str], Maker]:
    """(modality, format, extension) -> function that makes a file with content "a" or "b"."""
    made: dict[tuple[str, str, str], Maker] = {("image", "heic", "heic"): heic}
    for name, (muxer, codec, extension) in AV_SOUNDS.items():
        made["audio", name, extension] = lambda c, m=muxer, k=codec: encode_sound(c, m, k)
    for name, (kind, subtype) in SOUNDS.items():
        made["audio", name, name] = lambda c, k=kind, s=subtype: save_sound(c, k, s)
    for name, (muxer, codec, extension) in VIDEOS.items():
        made["video", name, extension] = lambda c, m=muxer, k=codec: encode_video(c, m, k)
    for name, (kind, options) in PICTURES.items():
        made["image", name, name] = lambda c, k=kind, o=options: save_picture(c, k, **o)
    for name, (extension, save) in clouds().items():
        made["point", name, extension] = save
    return made


TITLES = {"audio": "sounds", "video": "videos", "image": "pictures", "point": "point clouds"}
RELEASED = {  # formats that other tests cover
    "audio": ["wav", "flac", "ogg"],
    "video": ["mp4"],
    "image": ["jpg", "png"],
    "point": ["npy", "obj", "pcd", "ply", "pts", "xyz"],
}


def document() -> str:
    """Return the list of tested formats, as a document."""
    rows = ["# Formats", "", HEAD, "", "| kind | tested formats (extension) |", "|---|---|"]
    for modality, title in TITLES.items():
        tested = [f"{n} (.{e})" if n != e else e for m, n, e in makers() if m == modality]
        rows.append(f"| {title} | {', '.join(sorted({*RELEASED[modality], *tested}))} |")
    return "\n".join(rows) + "\n"


def file_name(modality: str, content: str, name: str, extension: str) -> str:
    return f"{modality}-{content}-{name}.{extension}"


def file_names() -> set[str]:
    """Return the names of all files in the folder."""
    return {
        file_name(modality, content, name, extension)
        for modality, name, extension in makers()
        for content in CONTENTS
    }


def main() -> None:
    DOCUMENT.write_text(document())
    FOLDER.mkdir(exist_ok=True)
    for (modality, name, extension), make in makers().items():
        for content in CONTENTS:
            data = make(content)
            if data is not None:
                (FOLDER / file_name(modality, content, name, extension)).write_bytes(data)
    sizes = [path.stat().st_size for path in FOLDER.iterdir()]
    print(f"{len(sizes)} files, {sum(sizes)} bytes")


if __name__ == "__main__":
    main()
