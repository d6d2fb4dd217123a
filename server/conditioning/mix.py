"""Mix several embeddings into one by their weighted mean.

The bind network, which maps ImageBind's embeddings to the LLM's width, was trained with this mean.
Shapes: M attachments, D embedding dimensions.
"""

from collections.abc import Sequence

import numpy as np

from model_ext.conditioning import WEIGHT_SUM_EPSILON, Vector
from server.errors import BadRequest

# Minimum of the absolute sum of the weights, because dividing by a small sum would amplify noise.
SMALLEST_SUM = 0.05


def mix(units: Vector, weights: Sequence[float]) -> Vector:
    """Return the weighted mean (D,) of embeddings (M, D) of length 1. The mean is not scaled to
    length 1.

    A weight may be negative, e.g. for "this sound without that image".

    Raises BadRequest: when the weights cancel out.
    """
    total = float(sum(weights))
    if abs(total) < SMALLEST_SUM:
        raise BadRequest(
            f"the weights of the attachments sum to {total:.3g}; "
            f"the server divides by this sum, so it must be at least {SMALLEST_SUM} away from 0",
            param="weight",
        )
    share = np.asarray(weights, dtype=np.float32)
    share = share / (share.sum() + WEIGHT_SUM_EPSILON)
    mixed: Vector = share @ units
    return mixed


def normalize(embeddings: Vector) -> Vector:
    """Scale embeddings (..., D) to unit length. A zero vector stays zero."""
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.maximum(length, np.float32(1e-12))
