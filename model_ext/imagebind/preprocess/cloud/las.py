"""Read laser scans (.las and .laz) with laspy and lazrs."""

import io

import laspy
import numpy as np

from model_ext.imagebind.preprocess.cloud.table import Cloud, check_count
from model_ext.imagebind.preprocess.errors import DecodeError

BLOCK = 500_000  # number of points read at a time


def read_las(data: bytes, max_points: int) -> Cloud:
    blocks = [np.empty((0, 3))]
    count = 0
    try:
        with laspy.open(io.BytesIO(data), laz_backend=laspy.LazBackend.Lazrs) as file:
            check_count(file.header.point_count, max_points)
            for block in file.chunk_iterator(BLOCK):
                count += len(block)
                check_count(count, max_points)
                blocks.append(np.stack([block.x, block.y, block.z], axis=-1))
    except (DecodeError, MemoryError):
        raise
    except BaseException as error:  # lazrs is Rust code: a panic raises a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise DecodeError("the .las file is damaged") from None
    return np.concatenate(blocks)
