"""Cut a sound into windows, block by block. Each window is a WAV file, or the samples of speech
(model_ext/imagebind/preprocess/speech.py).
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.speech import SpeechSamples
from server.encoding.decode.cut_job import CutError, CutJob

BLOCK = 1 << 16  # Number of audio frames (one sample per channel) that are read at a time.
SHORTEST = 0.025  # ImageBind needs at least this many seconds of sound.


@dataclass(frozen=True, slots=True)
class SoundBlocks:
    rate: int  # Hz
    channels: int
    blocks: Iterator[NDArray[np.float32]]  # samples (frames, channels), in order


def read_with_libsndfile(file: soundfile.SoundFile) -> SoundBlocks:
    def blocks() -> Iterator[NDArray[np.float32]]:
        while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
            yield block

    return SoundBlocks(file.samplerate, file.channels, blocks())


def read_with_ffmpeg(file: BinaryIO, name: str) -> SoundBlocks:
    """Read the first sound track of a file of the container `name`. Raises DecodeError, CutError.

    The caller must have imported `av_sound` before the process was confined.
    """
    from model_ext.imagebind.preprocess.av_sound import sound_blocks

    blocks = sound_blocks(file, name, {})
    first, rate = next(blocks, (np.empty((0, 0), np.float32), 0))

    def rest() -> Iterator[NDArray[np.float32]]:
        yield first
        for block, block_rate in blocks:
            if (block_rate, block.shape[1]) != (rate, first.shape[1]):
                raise CutError("the audio's sampling rate or number of channels changes")
            yield block

    return SoundBlocks(rate, first.shape[1], rest())


def wav_windows(sound: SoundBlocks, job: CutJob) -> Iterator[tuple[float, float, bytes]]:
    """Yield start and end in seconds, and the WAV file, of each window."""
    for first, samples in cut(sound, job):
        wav = io.BytesIO()
        soundfile.write(wav, samples, sound.rate, format="WAV", subtype="FLOAT")
        yield first / sound.rate, (first + len(samples)) / sound.rate, wav.getvalue()


def speech_windows(sound: SoundBlocks, job: CutJob) -> Iterator[tuple[float, float, bytes]]:
    """Yield start and end in seconds, and the samples of speech (int16), of each window."""
    speech, end = SpeechSamples(sound.rate), 0.0
    for first, samples in cut(sound, job):
        start, end = first / sound.rate, (first + len(samples)) / sound.rate
        yield start, end, speech.add(samples).tobytes()
    yield end, end, speech.end().tobytes()


def cut(sound: SoundBlocks, job: CutJob) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each window: the number of its first audio frame, and its samples (frames, channels).

    Windows start every `stride` seconds until the sound ends. The last windows may be shorter.

    Raises CutError: when the sound exceeds a limit.
    """
    rate, channels = sound.rate, sound.channels
    if not 1 <= channels <= job.max_channels or not 1000 <= rate <= job.max_rate:
        raise CutError(f"the audio has more than {job.max_channels} channels or an invalid rate")
    if round(job.seconds * rate) * channels > job.max_samples:
        raise CutError(
            f"a window has more than {job.max_samples} samples in all channels; use shorter windows"
        )
    max_frames = int(job.max_seconds * rate)
    kept = np.empty((0, channels), np.float32)
    position, ended = 0, False  # Index of the frame kept[0]; whether the file has ended.
    for number in range(job.max_windows + 1):
        start = number * job.stride
        first, stop = round(start * rate), round((start + job.seconds) * rate)
        while not ended and position + len(kept) < stop:
            block = next(sound.blocks, None)
            ended = block is None
            if block is not None:
                kept = np.concatenate([kept, block])
            # drop frames that no later window needs, also if the stride is longer than a window
            drop = min(max(0, first - position), len(kept))
            kept, position = kept[drop:], position + drop
            if position + len(kept) > max_frames:
                raise CutError(f"the audio is longer than {job.max_seconds:g} s")
        samples = kept[max(0, first - position) : max(0, stop - position)]
        if len(samples) < max(1, round(SHORTEST * rate)):
            if not number:
                raise CutError("the audio is shorter than 25 ms")
            return
        if number == job.max_windows:
            raise CutError(f"the audio has more than {job.max_windows} windows")
        yield first, samples
