"""Mix the vectors that condition a decoder of pictures (unCLIP).

They are the outputs of the encoders' heads before the normalisation, because a decoder also reads
their length. Shapes: M attachments, D embedding dimensions.
"""

from collections.abc import Sequence

import numpy as np

from model_ext.conditioning import POINT_DIVISOR, Vector
from server.conditioning.mix import mix
from server.media.embedded import Embedded


def picture_mix(embedded: Sequence[Embedded], weights: Sequence[float]) -> Vector:
    """Mix the vectors of M attachments by their weights: (D,).

    Raises BadRequest: when the weights cancel out.
    """
    return mix(np.stack([picture_vector(each) for each in embedded]), weights)


def picture_vector(embedded: Embedded) -> Vector:
    """The vector (D,) of one attachment."""
    assert embedded.prenorm is not None, "the server has no decoder of pictures"
    divisor = POINT_DIVISOR if embedded.modality == "point" else 1
    vector: Vector = embedded.prenorm / np.float32(divisor)
    return vector
