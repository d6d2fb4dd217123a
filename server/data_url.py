"""`data:` URLs and bare base64 to bytes, bounded before they are decoded.

The media type that the URL declares is ignored: the bytes decide.
"""

import binascii

from server.errors import BadRequest, TooLarge

SLICE = 1 << 20  # characters; other threads get their turn between two slices


def read_data_url(url: str, *, max_bytes: int, param: str) -> bytes:
    """The bytes of a base64 `data:` URL."""
    scheme, colon, rest = url.partition(":")
    scheme = scheme.strip().lower()
    if not colon or scheme != "data":
        raise BadRequest("expected a data: URL (data:TYPE/SUBTYPE;base64,...)", param=param)
    description, comma, data = rest.partition(",")
    if not comma or not description.lower().endswith(";base64"):
        raise BadRequest("expected a base64 data: URL (data:TYPE/SUBTYPE;base64,...)", param=param)
    return read_base64(data, max_bytes=max_bytes, param=param)


def read_base64(data: str, *, max_bytes: int, param: str) -> bytes:
    """Standard base64 with padding; line breaks are allowed."""
    if len(data) > 4 * (max_bytes // 3 + 1) * 1.03:  # 1.03: line breaks, one in 76 characters
        raise TooLarge(f"the file is larger than {max_bytes} bytes", param=param)
    if not data.isascii():
        raise BadRequest("the data is not base64", param=param)
    if "\n" in data:
        data = data.replace("\r", "").replace("\n", "")
    if 0 <= data.find("=") < len(data) - 2:
        raise BadRequest("the data is not base64", param=param)
    try:
        content = b"".join(
            binascii.a2b_base64(data[start : start + SLICE], strict_mode=True)
            for start in range(0, len(data), SLICE)
        )
    except binascii.Error:
        raise BadRequest("the data is not base64", param=param) from None
    if len(content) > max_bytes:
        raise TooLarge(f"the file is larger than {max_bytes} bytes", param=param)
    if not content:
        raise BadRequest("the file is empty", param=param)
    return content
