"""Decode base64 in requests: files (`data:` URLs or only base64) to bytes, and embeddings to
float32.

The functions check sizes before they decode. They ignore the media type of a `data:` URL, because
the bytes or the content part determine the modality.
"""

import binascii
import math
from typing import Any

import numpy as np

from server.errors import BadRequest, TooLarge

# number of characters that are decoded at a time, so that other threads can run in between
SLICE = 1 << 20


def read_data_url(url: str, *, max_bytes: int, param: str) -> bytes:
    """Decode a base64 `data:` URL to bytes. Raises BadRequest, TooLarge."""
    scheme, colon, rest = url.partition(":")
    scheme = scheme.strip().lower()
    if not colon or scheme != "data":
        raise BadRequest("expected a data: URL (data:TYPE/SUBTYPE;base64,...)", param=param)
    description, comma, data = rest.partition(",")
    if not comma or not description.lower().endswith(";base64"):
        raise BadRequest("expected a base64 data: URL (data:TYPE/SUBTYPE;base64,...)", param=param)
    return read_base64(data, max_bytes=max_bytes, param=param)


def read_base64(data: str, *, max_bytes: int, param: str) -> bytes:
    """Decode standard base64 with padding. Line breaks are allowed. Raises BadRequest, TooLarge."""
    # the factor 1.03 allows one line break for each 76 characters
    if len(data) > 4 * (max_bytes // 3 + 1) * 1.03:
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


def read_embedding(value: Any, dim: int, param: str) -> bytes:
    """Convert an embedding to little-endian float32. The embedding must have `dim` finite numbers,
    which must not all be zero.

    Raises BadRequest, TooLarge.
    """
    numbers = value.get("data") if isinstance(value, dict) else value
    if isinstance(numbers, str):
        packed = read_base64(numbers, max_bytes=4 * dim, param=param)
        embedding = np.frombuffer(packed, "<f4") if len(packed) == 4 * dim else np.zeros(0)
    elif isinstance(numbers, list) and len(numbers) == dim:
        if not all(type(number) in (int, float) for number in numbers):
            raise BadRequest("an embedding must contain numbers only", param=param)
        try:
            embedding = np.asarray(numbers, np.float64)
        except OverflowError:  # an integer is larger than any float
            raise BadRequest("a number of the embedding is too large", param=param) from None
    else:
        embedding = np.zeros(0)
    if embedding.shape != (dim,):
        raise BadRequest(
            f"an embedding is {dim} numbers: a JSON list, or base64 of little-endian float32",
            param=param,
        )
    # too large numbers become infinity, which the check below rejects
    with np.errstate(over="ignore"):
        embedding = embedding.astype("<f4")
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    if not math.isfinite(length) or length < 1e-6:
        raise BadRequest("an embedding must be finite and not zero", param=param)
    return embedding.tobytes()
