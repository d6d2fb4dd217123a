"""How a request's embedding travels into the engine: as bytes in `SamplingParams.extra_args`.

This file has the wire format and the salt of the prefix cache. It does not know how the embedding
is made or used. The embedding is not a multimodal item, because vLLM drops an item's data when the
prefix cache covers its placeholder.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

EXTRA_ARG = "bindserve"  # the key in SamplingParams.extra_args

# Added to the sum of the weights in the released formula of a mix: one input alone is scaled by
# 1/1.000001.
WEIGHT_SUM_EPSILON = 1e-6

Vector = NDArray[np.float32]


def pack(vector: Vector) -> bytes:
    """The embedding (D,) as little-endian float32.

    Raises ValueError: if it has several axes or values that are not finite.
    """
    if vector.ndim != 1:
        raise ValueError(f"an embedding must have one axis, but its shape is {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("the embedding has values that are not finite")
    return vector.astype("<f4").tobytes()


def unpack(packed: object, dim: int) -> Vector | None:
    """The embedding (dim,), or None if `packed` is not one.

    It never raises, because an exception would stop the engine.
    """
    if not isinstance(packed, bytes) or len(packed) != 4 * dim:
        return None
    vector = np.frombuffer(packed, "<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() else None


def cache_salt(packed: bytes, *salts: str) -> str:
    """The key that every prefix-cache block of the request depends on.

    From the first injected layer on, each token's keys and values depend on the embedding, so two
    requests may share blocks only if their embeddings are equal to the bit. `salts` (the client's
    and the API key's) restrict sharing further. Each field is hashed with its length, so that
    different fields cannot have the same concatenation.
    """
    digest = hashlib.sha256()
    for field in (packed, *(salt.encode() for salt in salts)):
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.hexdigest()
