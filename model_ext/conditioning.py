"""How a request's embedding travels into the engine: as bytes in `SamplingParams.extra_args`.

Knows the wire format and the salt of the prefix cache. Does not know where the embedding comes
from, nor what the model does with it. Not a multimodal item, because vLLM drops an item's data
when the prefix cache covers its placeholder.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

EXTRA_ARG = "bindserve"  # the key in SamplingParams.extra_args

Vector = NDArray[np.float32]


def pack(vector: Vector) -> bytes:
    """The embedding (D,) as little-endian float32. ValueError unless finite and of one axis."""
    if vector.ndim != 1:
        raise ValueError(f"one embedding has one axis, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError("the embedding has values that are not finite")
    return vector.astype("<f4").tobytes()


def unpack(packed: object, dim: int) -> Vector | None:
    """The embedding (dim,), or None if it is anything else: no request may kill the engine."""
    if not isinstance(packed, bytes) or len(packed) != 4 * dim:
        return None
    vector = np.frombuffer(packed, "<f4").astype(np.float32)
    return vector if np.isfinite(vector).all() else None


def cache_salt(packed: bytes, *salts: str) -> str:
    """The key that every prefix-cache block of the request depends on.

    From the first injected layer on, each token's keys and values depend on the embedding, so two
    requests may share blocks only if their embeddings are equal to the bit. `salts` (the client's
    own, the API key's) part them further. Each field is hashed with its length, so that none can
    imitate another.
    """
    digest = hashlib.sha256()
    for field in (packed, *(salt.encode() for salt in salts)):
        digest.update(len(field).to_bytes(8, "little"))
        digest.update(field)
    return digest.hexdigest()
