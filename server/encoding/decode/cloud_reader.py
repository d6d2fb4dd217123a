"""A process that reads one point cloud for a viewer, from standard input.

It writes one frame to standard output: the points as float32 numbers, or an error. If a reader
fails with an unexpected exception, the process ends without a frame. The process imports no torch,
so it starts in a fraction of a second.
"""

import contextlib
import json
import sys

import numpy as np

from model_ext.imagebind.preprocess.cloud.read import into_unit_sphere, read_cloud
from model_ext.imagebind.preprocess.cloud.samples import sample_clouds
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from server.encoding.decode import sandbox
from server.encoding.decode.frames import CloudJob, write_frame_blocking
from server.encoding.decode.one_file import confined


def main() -> None:
    parent, text = sys.argv[1:]
    job = CloudJob(**json.loads(text))
    limits = Limits(**job.limits)
    answers = confined(int(parent), job.memory_bytes, prepare)
    sandbox.allow_cpu(job.cpu_s)
    try:
        data = sys.stdin.buffer.read(limits.cloud_bytes + 1)
        write_frame_blocking(answers, {}, points_of(data, limits))
    except DecodeError as error:
        write_frame_blocking(answers, {"error": str(error)}, b"")


def prepare() -> None:
    for cloud in sample_clouds():
        with contextlib.suppress(DecodeError):
            points_of(cloud, Limits())


def points_of(data: bytes, limits: Limits) -> bytes:
    """The points (N, 3) of a cloud, scaled into the unit sphere, as little-endian float32 numbers.

    The scaling comes before the conversion to float32, because laser scans have coordinates of
    millions of metres. Raises DecodeError.
    """
    if len(data) > limits.cloud_bytes:
        raise DecodeError(f"the point cloud is larger than {limits.cloud_bytes} bytes")
    cloud = into_unit_sphere(read_cloud(data, limits, {}))
    return np.ascontiguousarray(cloud, "<f4").tobytes()


if __name__ == "__main__":
    main()
