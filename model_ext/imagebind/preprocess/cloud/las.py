"""Read laser scans (.las and .laz) with laspy and lazrs."""

import io
import struct

import laspy
import numpy as np

from model_ext.imagebind.preprocess.cloud.table import Cloud, check_count
from model_ext.imagebind.preprocess.errors import DecodeError

# The header's field for the number of variable-length records, its position, and the minimum bytes
# of a record
RECORDS, RECORDS_POSITION, RECORD_BYTES = struct.Struct("<I"), 100, 54
TABLE_POSITION = struct.Struct("<q")
TABLE_HEAD = struct.Struct("<II")  # Version and number of chunks.
# Laser scans need several bytes per point. lazrs also decodes points beyond the end of the data.
MAX_POINTS_PER_BYTE = 16
BLOCK = 500_000  # Number of points read at a time.


def read_las(data: bytes, max_points: int) -> Cloud:
    blocks = [np.empty((0, 3))]
    count = 0
    try:
        # laspy reads as many records as the header declares, even beyond the end of the file.
        if RECORDS.unpack_from(data, RECORDS_POSITION)[0] * RECORD_BYTES > len(data):
            raise DecodeError("the .las file is damaged")
        source, backend = io.BytesIO(data), laspy.LazBackend.Lazrs
        with laspy.open(source, laz_backend=backend, read_evlrs=False) as file:
            check_count(file.header.point_count, max_points)
            if file.header.are_points_compressed:
                check_count(file.header.point_count, MAX_POINTS_PER_BYTE * len(data))
                _check_chunks(data, file.header)
            elif file.header.point_count * file.header.point_format.size > len(data):
                raise DecodeError("the point cloud is shorter than its header says")
            for block in file.chunk_iterator(BLOCK):
                count += len(block)
                check_count(count, max_points)
                blocks.append(np.stack([block.x, block.y, block.z], axis=-1))
    except (DecodeError, MemoryError):
        raise
    except BaseException as error:  # a panic of lazrs, a Rust library, raises a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise DecodeError("the .las file is damaged") from None
    return np.concatenate(blocks)


def _check_chunks(data: bytes, header: laspy.LasHeader) -> None:
    """Check the number of chunks, because lazrs allocates memory for all chunks before it reads
    them.

    Raises struct.error: when the table of chunks is outside of the file.
    """
    (position,) = TABLE_POSITION.unpack_from(data, header.offset_to_point_data)
    if position == -1:  # if the file was written as a stream, the position is at its end
        (position,) = TABLE_POSITION.unpack_from(data, len(data) - TABLE_POSITION.size)
    if position < 0:
        raise DecodeError("the .las file is damaged")
    _, chunks = TABLE_HEAD.unpack_from(data, position)
    if chunks > min(header.point_count, len(data)):
        raise DecodeError("the .las file is damaged")
