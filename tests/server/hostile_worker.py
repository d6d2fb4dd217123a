"""A decoding process that behaves as if a hostile file controlled it. The job's modality selects
the misbehaviour.
"""

import os
import sys
import time

import numpy as np
from safetensors.numpy import save

from server.encoding.decode import sandbox
from server.encoding.decode.frames import encode_head, read_frame_blocking, write_frame_blocking
from server.encoding.decode.worker import take_pipes


def main() -> None:
    jobs, answers = take_pipes()
    read_frame_blocking(jobs, 1 << 20)
    write_frame_blocking(answers, {"ready": True, "isolated": True}, b"")
    while job := read_frame_blocking(jobs, 1 << 20):
        behave(job[0]["modality"], answers)


def behave(how: str, answers) -> None:  # type: ignore[no-untyped-def]
    match how:
        case "crash":
            os.abort()
        case "leave":
            sys.exit()
        case "hang":
            time.sleep(60)
        case "burn":  # The process uses CPU time until its limit.
            sandbox.allow_cpu(0)
            while True:
                pass
        case "wait":  # The process waits without using CPU time.
            time.sleep(0.6)
            write_frame_blocking(answers, {}, save({"tensor": np.array([0])}))
        case "nonsense":
            write_frame_blocking(answers, {}, b"not a tensor")
        case "no header":
            answers.write(b"\x00\x00\x00\x03\x00\x00\x00\x00abc")
            answers.flush()
        case "flood":
            answers.write(encode_head({}, 0)[:4] + b"\xff\xff\xff\xff" + bytes(1 << 20))
            answers.flush()
        case "long error":
            write_frame_blocking(answers, {"error": "x" * 10_000}, b"")
        case "other modality":
            write_frame_blocking(answers, {"modality": "text"}, save({"tensor": np.array([0])}))
        case "long note":
            header = {"notes": {"codec": "x" * 10_000}}
            write_frame_blocking(answers, header, save({"tensor": np.array([0])}))
        case "pid":
            write_frame_blocking(answers, {}, save({"tensor": np.array([os.getpid()])}))


if __name__ == "__main__":
    main()
