"""Cut a sound into pieces of speech samples (model_ext/imagebind/preprocess/speech.py).

This module imports FFmpeg, which the cutting of sounds into WAV files does not need.
"""

from collections.abc import Iterator

from model_ext.imagebind.preprocess.speech import SpeechSamples
from server.encoding.decode.cut_job import CutJob
from server.encoding.decode.cut_sound import SoundBlocks, cut


def speech_windows(sound: SoundBlocks, job: CutJob) -> Iterator[tuple[float, float, bytes]]:
    """Yield start and end in seconds, and the samples of speech (int16), of each window."""
    speech, end = SpeechSamples(sound.rate), 0.0
    for first, samples in cut(sound, job):
        start, end = first / sound.rate, (first + len(samples)) / sound.rate
        yield start, end, speech.add(samples).tobytes()
    yield end, end, speech.end().tobytes()
