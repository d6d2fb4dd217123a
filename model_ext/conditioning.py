"""Pass a request's embedding to the engine, as bytes in `SamplingParams.extra_args`.

This file defines the byte format, and the salt (`cache_salt`) of vLLM's prefix cache. The embedding
is not passed as one of vLLM's multimodal items, because vLLM drops an item's data if the prefix
cache covers its placeholder.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

EXTRA_ARG = "bindserve"  # the embedding's key in SamplingParams.extra_args

# The released code divides a mix of embeddings by the sum of their weights plus this number.
# Therefore, the embedding of a single input is scaled by 1/1.000001.
WEIGHT_SUM_EPSILON = 1e-6

Vector = NDArray[np.float32]


def pack(vector: Vector) -> bytes:
    """Convert an embedding (D,) to bytes, as little-endian float32.

    Raises ValueError: if the embedding does not have one axis, or has values that are not finite.
    """
    if vector.ndim != 1:
        raise ValueError(f"an embedding must have one axis, but its shape is {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("the embedding has values that are not finite")
    return vector.astype("<f4").tobytes()


def unpack(packed: object, dim: int) -> Vector | None:
    """Convert bytes to an embedding (dim,).

    Returns None if `packed` is not a valid embedding. Never raises, because an exception here would
    stop the engine.
    """
    if not isinstance(packed, bytes) or len(packed) != 4 * dim:
        return None
    vector = np.frombuffer(packed, "<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() else None


def cache_salt(packed: bytes, *salts: str) -> str:
    """Compute the salt that vLLM adds to the key of each prefix-cache block of the request.

    In the injected layers, the keys and values of all tokens depend on the embedding. Therefore,
    two requests may share blocks only if their embeddings are equal in every bit. `salts` (the
    client's and the API key's) restrict sharing further. Each field is hashed with its length, so
    that different lists of fields never give the same hash input.
    """
    digest = hashlib.sha256()
    for field in (packed, *(salt.encode() for salt in salts)):
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.hexdigest()
