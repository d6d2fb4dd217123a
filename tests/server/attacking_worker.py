"""A decoding process with all its rules, whose decoder runs the code in the job's modality, as if a
hostile file controlled it. The answer is an error with the name of the exception.
"""

import ctypes
import os  # noqa: F401
import resource  # noqa: F401
import socket  # noqa: F401
from typing import Any, BinaryIO

from server.encoding.decode import worker
from server.encoding.decode.frames import DecodeJob, WorkerSettings

libc = ctypes.CDLL(None)


class AttackingDecoder(worker.Decoder):
    def __init__(self, settings: WorkerSettings, config: bytes) -> None:
        del config
        self.settings = settings

    def answer(self, job: DecodeJob, file: BinaryIO) -> tuple[dict[str, Any], bytes]:
        del file
        try:
            exec(job.modality, globals())  # noqa: S102
        except BaseException as error:
            return {"error": type(error).__name__}, b""
        return {"error": "the attack succeeded"}, b""


if __name__ == "__main__":
    worker.Decoder = AttackingDecoder  # type: ignore[misc]
    worker.main()
