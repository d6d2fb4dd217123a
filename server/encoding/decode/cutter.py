"""A process that cuts one sound or video into windows.

The process reads the file from standard input in blocks, so that its memory does not grow with the
file's length. It writes one message (frames.py) per window to standard output, and waits if the
reader is slow. The process has the sandbox and the confinement of a decoding process. It does not
import torch, so that it starts in a fraction of a second.
"""

import json
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

import soundfile

from model_ext.imagebind.preprocess.container import LIBSNDFILE, VIDEO, container
from model_ext.imagebind.preprocess.errors import DecodeError
from server.encoding.decode import confine, sandbox
from server.encoding.decode.cut_job import CutError, CutJob
from server.encoding.decode.cut_sound import (
    read_with_ffmpeg,
    read_with_libsndfile,
    speech_windows,
    wav_windows,
)
from server.encoding.decode.frames import write_frame_blocking
from server.process.child import die_with_parent

HEAD = 1 << 16
# A video's first window may need more CPU time than the others, because the times of all frames are
# read before it. The limit is multiplied by this factor.
CPU_OF_TIMES = 4

Window = tuple[str, float, float, bytes]  # modality, start and end in seconds, file


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
    name = container(os.pread(0, HEAD, 0))
    if name is not None and name not in LIBSNDFILE:
        # A confined process cannot open the files of these packages.
        from model_ext.imagebind.preprocess import av_sound  # noqa: F401
        from model_ext.imagebind.preprocess.av_file import import_av
        from server.encoding.decode import cut_video  # noqa: F401

        import_av()
    sandbox.limit_resources(job.memory_bytes, 0)
    confine.forbid_files()
    confine.forbid_programs()
    sandbox.allow_cpu(job.cpu_s * CPU_OF_TIMES)
    damaged = f"the {job.modality} is damaged or in a format that is not read"
    try:
        write_windows(windows(name, damaged, job), job, answers)
    except (CutError, DecodeError) as error:
        write_frame_blocking(answers, {"error": str(error)}, b"")
    except (soundfile.LibsndfileError, RuntimeError, ValueError, OverflowError, MemoryError):
        write_frame_blocking(answers, {"error": damaged}, b"")


def write_windows(windows: Iterator[Window], job: CutJob, answers: BinaryIO) -> None:
    """Write a message with each window of the file, and then an empty message."""
    for modality, start, end, data in windows:
        header = {"modality": modality, "start": start, "end": end}
        write_frame_blocking(answers, header, data)
        sandbox.allow_cpu(job.cpu_s)
    write_frame_blocking(answers, {}, b"")


def windows(name: str | None, damaged: str, job: CutJob) -> Iterator[Window]:
    """Yield the windows of the file in standard input, whose container is `name`.

    A video without pictures is cut as a sound. Raises CutError, DecodeError, and the errors of
    libsndfile.
    """
    if name is None:
        raise CutError(damaged)
    sound_windows = speech_windows if job.speech else wav_windows
    if name in LIBSNDFILE:
        with soundfile.SoundFile(0, closefd=False) as sound:
            for window in sound_windows(read_with_libsndfile(sound), job):
                yield "audio", *window
        return
    with os.fdopen(0, "rb", buffering=0, closefd=False) as file:
        if job.modality == "video" and is_video(file, name):
            from server.encoding.decode.cut_video import avi_windows

            for window in avi_windows(file, name, job):
                yield "video", *window
        else:
            for window in sound_windows(read_with_ffmpeg(file, name), job):
                yield "audio", *window


def is_video(file: BinaryIO, name: str) -> bool:
    from model_ext.imagebind.preprocess.av_file import has_pictures

    return name in VIDEO and has_pictures(file, name)


if __name__ == "__main__":
    main()
