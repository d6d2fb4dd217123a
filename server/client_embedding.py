"""An embedding that the client computed itself: a list of numbers, or base64 of float32."""

import math
from typing import Any

import numpy as np

from server.data_url import read_base64
from server.errors import BadRequest


def read_embedding(value: Any, dim: int, param: str) -> bytes:
    """Little-endian float32: `dim` finite numbers, not all zero. BadRequest, TooLarge."""
    numbers = value.get("data") if isinstance(value, dict) else value
    if isinstance(numbers, str):
        packed = read_base64(numbers, max_bytes=4 * dim, param=param)
        embedding = np.frombuffer(packed, "<f4") if len(packed) == 4 * dim else np.zeros(0)
    elif isinstance(numbers, list) and len(numbers) == dim:
        if not all(type(number) in (int, float) for number in numbers):
            raise BadRequest("an embedding holds numbers only", param=param)
        try:
            embedding = np.asarray(numbers, np.float64)
        except OverflowError:  # an integer that no float can hold
            raise BadRequest("a number of the embedding is too large", param=param) from None
    else:
        embedding = np.zeros(0)
    if embedding.shape != (dim,):
        raise BadRequest(
            f"an embedding is {dim} numbers: a list, or base64 of little-endian float32",
            param=param,
        )
    with np.errstate(over="ignore"):  # to infinity, which is refused next
        embedding = embedding.astype("<f4")
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    if not math.isfinite(length) or length < 1e-6:
        raise BadRequest("an embedding must be finite and not zero", param=param)
    return embedding.tobytes()
