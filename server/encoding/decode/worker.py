"""A decoding process: turns a client's bytes into a tensor.

Reads jobs as frames on standard input and answers on standard output. Expendable: it holds no
secret, has no network where the kernel allows, and whatever goes wrong costs one request.
"""

import os
import sys
from typing import Any, BinaryIO

from server.encoding.decode import sandbox
from server.encoding.decode.frames import read_frame_blocking, write_frame_blocking
from server.process.child import die_with_parent

MAX_CONFIG_BYTES = 1 << 20


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    sandbox.never_gain_privileges()
    isolated = sandbox.leave_network()
    jobs, answers = take_pipes()
    first = read_frame_blocking(jobs, MAX_CONFIG_BYTES)
    if first is None:
        return
    decoder = Decoder(*first)  # imports torch: the slow part of starting
    write_frame_blocking(answers, {"ready": True, "isolated": isolated}, b"")
    sandbox.limit_resources(decoder.memory_bytes, decoder.max_bytes)
    silence()
    while job := read_frame_blocking(jobs, decoder.max_bytes):
        sandbox.allow_cpu(decoder.cpu_s)
        write_frame_blocking(answers, *decoder.answer(*job))


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our ends of the pipes; what libraries print goes to standard error instead."""
    jobs, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return jobs, answers


def silence() -> None:
    """From here on, only decoders complain on standard error: about clients' bytes, at length."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


class Decoder:
    def __init__(self, settings: dict[str, Any], config: bytes) -> None:
        """`config` is the encoders' config.json: the sizes that tensors must have."""
        import torch

        from model_ext.imagebind.config import ImageBindConfig
        from model_ext.imagebind.preprocess.config import PreprocessConfig
        from model_ext.imagebind.preprocess.errors import DecodeError
        from model_ext.imagebind.preprocess.limits import Limits
        from model_ext.imagebind.preprocess.registry import preprocess

        torch.set_num_threads(1)
        self.memory_bytes: int = settings["memory_bytes"]
        self.cpu_s: float = settings["cpu_s"]
        self.max_bytes: int = settings["max_bytes"]
        self._limits = Limits(**settings["limits"])
        self._config = PreprocessConfig.of(ImageBindConfig.from_json(config))
        self._preprocess, self._decode_error = preprocess, DecodeError

    def answer(self, job: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
        """The tensor as safetensors, or what is wrong with the bytes."""
        from safetensors.torch import save

        try:
            tensor = self._preprocess(job["modality"], data, self._config, self._limits)
        except self._decode_error as error:
            return {"error": str(error)}, b""
        except MemoryError:
            return {"error": "the file needs too much memory to decode"}, b""
        except Exception as error:  # a decoder's own text may quote memory or paths: not shown
            return {"error": "the file cannot be decoded", "cause": type(error).__name__}, b""
        return {}, save({"tensor": tensor.contiguous()})


if __name__ == "__main__":
    main()
