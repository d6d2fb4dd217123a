"""Write samples as a sound file, in the formats of OpenAI's /v1/audio/speech except aac."""

import io

import numpy as np
import soundfile

from model_ext.side import Array

# Name of the format -> libsndfile's format and subtype, and the media type.
FORMATS = {
    "mp3": ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
    "opus": ("OGG", "OPUS", "audio/ogg"),
    "flac": ("FLAC", "PCM_16", "audio/flac"),
    "wav": ("WAV", "PCM_16", "audio/wav"),
}
PCM = "pcm"  # 16-bit little-endian samples without a header
PCM_TYPE = "audio/pcm"


def sound_file(samples: Array, rate: int, name: str) -> tuple[bytes, str]:
    """Return the file of samples (N,) in [-1, 1], and its media type."""
    if name == PCM:
        return (samples * 32767).astype("<i2").tobytes(), PCM_TYPE
    kind, subtype, media_type = FORMATS[name]
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), rate, format=kind, subtype=subtype)
    return file.getvalue(), media_type
