"""Decompress LZF, the compression of .pcd files."""

from model_ext.imagebind.preprocess.errors import DecodeError


def decompress(data: bytes, size: int) -> bytes:
    """Decompress to exactly `size` bytes. Raises DecodeError."""
    damaged = DecodeError("the .pcd file's compressed data are damaged")
    out = bytearray()
    position, end = 0, len(data)
    try:
        while position < end:
            control = data[position]
            position += 1
            if control < 32:  # a literal run: copy the next bytes unchanged
                out += data[position : position + control + 1]
                position += control + 1
            else:  # a reference to earlier output: length, then distance
                length = control >> 5
                if length == 7:
                    length += data[position]
                    position += 1
                start = len(out) - ((control & 31) << 8 | data[position]) - 1
                position += 1
                length += 2
                if start < 0:
                    raise damaged
                piece = out[start : start + length]
                while len(piece) < length:  # the reference overlaps its own output
                    piece += piece[: length - len(piece)]
                out += piece
            if len(out) > size:
                raise damaged
    except IndexError:
        raise damaged from None
    if len(out) != size:
        raise damaged
    return bytes(out)
