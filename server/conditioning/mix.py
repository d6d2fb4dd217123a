"""Several embeddings to one: the weighted mean that the bind network was trained on.

Shapes: M attachments, D embedding dimensions.
"""

from collections.abc import Sequence

import numpy as np

from model_ext.conditioning import WEIGHT_SUM_EPSILON, Vector
from server.errors import BadRequest

SMALLEST_SUM = 0.05  # of the weights, in absolute value: below it, the division blows up noise


def mix(units: Vector, weights: Sequence[float]) -> Vector:
    """Unit embeddings (M, D) and their weights -> (D,), which is *not* normalized afterwards.

    Weights may be negative: "this sound without that image". BadRequest if they cancel out.
    """
    total = float(sum(weights))
    if abs(total) < SMALLEST_SUM:
        raise BadRequest(
            f"the weights of the attachments sum to {total:.3g}; "
            f"they are divided by their sum, so it must be at least {SMALLEST_SUM} away from 0",
            param="weight",
        )
    share = np.asarray(weights, dtype=np.float32)
    share = share / (share.sum() + WEIGHT_SUM_EPSILON)
    mixed: Vector = share @ units
    return mixed


def normalize(embeddings: Vector) -> Vector:
    """(..., D) to unit length; a zero vector stays zero."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.maximum(length, np.float32(1e-12))
