"""Recognize unsupported files by their signatures, so that an error can name the kind of file and
say what to do.
"""

from model_ext.imagebind.preprocess.container import VIDEO, container
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.pictures import is_picture

PICTURE = "save it as PNG or JPEG"
SOUND = "save it as WAV or FLAC"
CLOUD = "save the points as .ply or .npy"
# (offset of the signature, signature, name of the kind, what the client should do). The first match
# counts.
SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"%PDF-", "a PDF document", "save the page as PNG or send its text"),
    (0, b"%!PS", "PostScript", PICTURE),
    (0, b"\xc5\xd0\xd3\xc6", "EPS", PICTURE),
    (0, b"8BPS", "a Photoshop file", PICTURE),
    (0, b"\xff\x0a", "JPEG XL", PICTURE),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL", PICTURE),
    (0, b"\x76\x2f\x31\x01", "OpenEXR", PICTURE),
    (0, b"#?RADIANCE", "a Radiance picture", PICTURE),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph", PICTURE),
    (8, b"CR\x02\x00", "a raw photograph", PICTURE),
    (0, b"IIRO", "a raw photograph", PICTURE),
    (0, b"SIMPLE  =", "FITS", PICTURE),
    (128, b"DICM", "DICOM", PICTURE),
    (0, b"gimp xcf", "a GIMP file", PICTURE),
    (0, b"\xd7\xcd\xc6\x9a", "a Windows metafile", PICTURE),
    (40, b" EMF", "a Windows metafile", PICTURE),
    (0, b"MThd", "MIDI, which has notes and no sound", "render it to WAV"),
    (0, b"MAC ", "Monkey's Audio", SOUND),
    (0, b"DSD ", "DSD audio", SOUND),
    (0, b"#EXTM3U", "a playlist", "send the media file itself"),
    (0, b"ffconcat", "a playlist", "send the media file itself"),
    (0, b"[playlist]", "a playlist", "send the media file itself"),
    (0, b".RMF", "RealMedia", "save it as mp4"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF", "save it as mp4"),
    (0, b"FWS", "Flash", "save it as mp4"),
    (0, b"CWS", "Flash", "save it as mp4"),
    (0, b"ASTM-E57", "E57", CLOUD),
    (0, b"Kaydara FBX", "FBX", CLOUD),
    (0, b"BLENDER", "a Blender file", CLOUD),
    (0, b"#VRML", "VRML", CLOUD),
    (0, b"# vtk DataFile", "VTK", CLOUD),
    (0, b"PAR1", "Parquet", "save the columns as .npy or .csv"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5 or MATLAB", "save the array as .npy"),
    (0, b"MATLAB 5.0", "MATLAB", "save the array as .npy"),
    (0, b"\x28\xb5\x2f\xfd", "compressed (zstd)", "send the file uncompressed"),
    (0, b"\x1f\x8b", "compressed (gzip)", "send the file uncompressed"),
    (0, b"BZh", "compressed (bzip2)", "send the file uncompressed"),
    (0, b"\xfd7zXZ", "compressed (xz)", "send the file uncompressed"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "send the file that it contains"),
    (0, b"Rar!", "a RAR archive", "send the file that it contains"),
    (257, b"ustar", "a tar archive", "send the file that it contains"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document", "send the file that it contains"),
    (0, b"\xd0\xcf\x11\xe0", "an Office document", "send its text"),
    (0, b"{\\rtf", "RTF", "send its text"),
    (0, b"SQLite format 3", "a database", "send the media file itself"),
    (0, b"\x7fELF", "a program", "send a media file"),
    (0, b"MZ", "a program", "send a media file"),
)
MARKUP = ((b"<svg", "SVG", PICTURE), (b"<html", "an HTML page", "send its text"))


def kind(data: bytes) -> tuple[str, str] | None:
    """Return the kind of an unsupported file and what the client should do, or None."""
    for offset, signature, name, advice in SIGNATURES:
        if data.startswith(signature, offset):
            return name, advice
    head = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"<"):
        for tag, name, advice in MARKUP:
            if tag in head:
                return name, advice
        return "XML or HTML", "send a media file or its text"
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, which the server never opens", "save the array as .npy"
    return None


def unreadable(modality: str, data: bytes) -> DecodeError:
    """Return the error for a file whose format the reader of `modality` does not support."""
    if (unsupported := kind(data)) is not None:
        name, advice = unsupported
        return DecodeError(f"this file is {name}: {advice}")
    if (other := supported(data)) is not None and other[0] != modality:
        return DecodeError(f"this file is {other[1]} and not of the modality {modality}")
    return DecodeError(f"the {modality} is damaged or of an unknown format")


def supported(data: bytes) -> tuple[str, str] | None:
    """Return the modality and the name of the file's format if it is supported and has a signature,
    or None.
    """
    if (picture := is_picture(data)) is not None:
        return "image", f"a picture ({picture})"
    if (name := container(data)) is not None:
        return ("video", f"a video ({name})") if name in VIDEO else ("audio", f"a sound ({name})")
    return None
