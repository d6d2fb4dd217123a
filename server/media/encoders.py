"""Check whether the model has the encoder of a modality."""

from collections.abc import Collection

from model_ext.imagebind.config import ENCODER_OF
from server.errors import BadRequest


def check_encoder(modality: str, encoders: Collection[str]) -> None:
    """`encoders`: the names of the model's encoders. Raises BadRequest: when the encoder is
    missing.
    """
    if ENCODER_OF[modality] not in encoders:
        modalities = [name for name, encoder in ENCODER_OF.items() if encoder in encoders]
        raise BadRequest(
            f"this model has no encoder for the modality {modality}; "
            f"it accepts {', '.join(modalities)}"
        )
