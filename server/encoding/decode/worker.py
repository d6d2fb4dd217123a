"""A decoding process: turns a client's file into a tensor.

The process reads jobs as frames from one socket, and receives the descriptor of each job's file on
another. During a job, the file is standard input, from which the libraries read only the parts that
they need. The process has no secrets, and it gives up its network access if the kernel allows this.
A failure of the process fails only one request.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from server.encoding.decode import confine, sandbox
from server.encoding.decode.frames import (
    DecodeJob,
    WorkerSettings,
    read_frame_blocking,
    write_frame_blocking,
)
from server.process.child import die_with_parent

MAX_CONFIG_BYTES = 1 << 20


def main() -> None:
    parent, files_socket = map(int, sys.argv[1:])
    die_with_parent(parent)
    sandbox.never_gain_privileges()
    isolated = sandbox.leave_network()
    jobs, answers = take_pipes()
    files = socket.socket(fileno=files_socket)
    first = read_frame_blocking(jobs, MAX_CONFIG_BYTES)
    if first is None:
        return
    settings, config = first
    # Import everything now, because no module can be imported after `forbid_files`. This import
    # also loads torch, which takes seconds.
    decoder = Decoder(WorkerSettings(**settings), config)
    nothing = os.open(os.devnull, os.O_RDWR)
    sandbox.limit_resources(decoder.settings.memory_bytes, decoder.settings.max_bytes)
    confined = confine.forbid_files() & confine.forbid_programs()
    ready = {"ready": True, "isolated": isolated, "confined": confined}
    write_frame_blocking(answers, ready, b"")
    silence(nothing)
    while job := read_frame_blocking(jobs, 0):
        sandbox.allow_cpu(decoder.settings.cpu_s)
        with received_file(files, nothing) as file:
            answer = decoder.answer(DecodeJob(**job[0]), file)
        write_frame_blocking(answers, *answer)


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Reserve standard input and output for messages. Output that libraries print goes to standard
    error.
    """
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return jobs, answers


def silence(nothing: int) -> None:
    """Discard standard error, to which decoders print details of clients' files.

    `nothing`: the descriptor of the null device.
    """
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


@contextmanager
def received_file(files: socket.socket, nothing: int) -> Iterator[BinaryIO]:
    """Receive a descriptor, and make its file standard input in the `with` block.

    `nothing`: the descriptor of the null device.
    """
    _, descriptors, _, _ = socket.recv_fds(files, 1, 1)
    for descriptor in descriptors:
        os.dup2(descriptor, 0)
        os.close(descriptor)
    try:
        with open(0, "rb", buffering=0, closefd=False) as file:
            yield file
    finally:
        os.dup2(nothing, 0)  # so that this process does not keep the file open


class Decoder:
    def __init__(self, settings: WorkerSettings, config: bytes) -> None:
        """`config`: the encoders' config.json, which contains the sizes of tensors."""
        import torch

        from model_ext.imagebind.config import ImageBindConfig
        from model_ext.imagebind.preprocess.config import PreprocessConfig
        from model_ext.imagebind.preprocess.errors import DecodeError
        from model_ext.imagebind.preprocess.limits import Limits
        from model_ext.imagebind.preprocess.options import ReadOptions
        from model_ext.imagebind.preprocess.registry import decode
        from model_ext.imagebind.preprocess.sample import Sample
        from model_ext.imagebind.preprocess.views import read_view
        from model_ext.imagebind.preprocess.warm_up import import_lazy_modules

        torch.set_num_threads(1)
        import_lazy_modules()
        self.settings = settings
        self._limits = Limits(**settings.limits)
        self._config = PreprocessConfig.of(ImageBindConfig.from_json(config))
        self._decode, self._decode_error, self._options = decode, DecodeError, ReadOptions
        self._read_view, self._sample = read_view, Sample

    def answer(self, job: DecodeJob, file: BinaryIO) -> tuple[dict[str, Any], bytes]:
        """Run a job. Returns the header and payload of the answer: an error, or a tensor in
        safetensors format.
        """
        from safetensors.torch import save

        try:
            if job.view:
                notes: dict[str, Any] = {}
                tensor = self._read_view(job.view, job.modality, file, self._limits, notes)
                sample = self._sample(job.modality, tensor, notes)
            else:
                options = self._options(**job.options)
                sample = self._decode(job.modality, file, self._config, self._limits, options)
        except self._decode_error as error:
            return {"error": str(error)}, b""
        except MemoryError:
            return {"error": "the file needs too much memory to decode"}, b""
        # do not send the exception's message, which may contain paths or contents of memory
        except Exception as error:
            return {"error": "the file cannot be decoded", "cause": type(error).__name__}, b""
        header = {"modality": sample.modality, "notes": sample.notes}
        return header, save({"tensor": sample.tensor.contiguous()})


if __name__ == "__main__":
    main()
