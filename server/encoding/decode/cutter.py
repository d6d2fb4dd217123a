"""A process that cuts one sound into windows. Each window is a WAV file, or the samples of speech
(model_ext/imagebind/preprocess/speech.py).

The process reads the sound's file from standard input in blocks, so that its memory does not grow
with the sound's length. It writes one message (frames.py) per window to standard output, and waits
if the reader is slow. The process has the sandbox and the confinement of a decoding process. It
does not import torch, so that it starts in a fraction of a second.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from model_ext.imagebind.preprocess.container import is_audio
from model_ext.imagebind.preprocess.speech import SpeechSamples
from server.encoding.decode import confine, sandbox
from server.encoding.decode.frames import write_frame_blocking
from server.process.child import die_with_parent

HEAD = 1 << 16
BLOCK = 1 << 16  # number of audio frames (one sample per channel) that are read at a time

SHORTEST = 0.025  # ImageBind needs at least this many seconds of sound
DAMAGED = "the audio is damaged or not wav, flac, ogg or mp3"


@dataclass(frozen=True, slots=True)
class CutJob:
    """`seconds`: length of a window. `stride`: seconds between the starts of two windows.
    `max_seconds`: maximum length of the sound.
    """

    seconds: float
    stride: float
    max_seconds: float
    max_windows: int
    max_channels: int
    max_rate: int  # Maximum sampling rate in Hz.
    max_samples: int  # Maximum samples of one window, of all channels together.
    memory_bytes: int
    cpu_s: float  # maximum CPU seconds for one window
    speech: bool = False  # whether windows, which then must not overlap, are samples of speech


class CutError(Exception):
    """Raised when the sound cannot be cut. The message is for the client."""


def main() -> None:
    parent, text = sys.argv[1:]
    die_with_parent(int(parent))
    # Open the file again, because other cutting processes share the position of the inherited
    # descriptor.
    os.dup2(os.open("/proc/self/fd/0", os.O_RDONLY), 0)
    sandbox.never_gain_privileges()
    sandbox.leave_network()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    job = CutJob(**json.loads(text))
    sandbox.limit_resources(job.memory_bytes, 0)
    confine.forbid_files()
    confine.forbid_programs()
    sandbox.allow_cpu(job.cpu_s)
    try:
        write_windows(job, answers)
    except CutError as error:
        write_frame_blocking(answers, {"error": str(error)}, b"")
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError, MemoryError):
        write_frame_blocking(answers, {"error": DAMAGED}, b"")


def write_windows(job: CutJob, answers: BinaryIO) -> None:
    """Write a message for each window of the file in standard input, and then an empty message."""
    if not is_audio(os.pread(0, HEAD, 0)):
        raise CutError(DAMAGED)
    with soundfile.SoundFile(0, closefd=False) as file:
        speech = SpeechSamples(file.samplerate) if job.speech else None
        for first, samples in cut(file, job):
            sandbox.allow_cpu(job.cpu_s)
            start, end = (frame / file.samplerate for frame in (first, first + len(samples)))
            data = speech.add(samples).tobytes() if speech else wav(samples, file.samplerate)
            write_frame_blocking(answers, {"start": start, "end": end}, data)
        if speech:
            write_frame_blocking(answers, {"start": end, "end": end}, speech.end().tobytes())
    write_frame_blocking(answers, {}, b"")


def wav(samples: NDArray[np.float32], rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def cut(file: soundfile.SoundFile, job: CutJob) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each window: the number of its first audio frame, and its samples (frames, channels).

    Windows start every `stride` seconds until the sound ends. The last windows may be shorter.

    Raises CutError: when the sound exceeds a limit.
    """
    rate, channels = file.samplerate, file.channels
    if not 1 <= channels <= job.max_channels or not 1000 <= rate <= job.max_rate:
        raise CutError(f"the audio has more than {job.max_channels} channels or a bad rate")
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
            block = file.read(BLOCK, dtype="float32", always_2d=True)
            ended = not len(block)
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


if __name__ == "__main__":
    main()
