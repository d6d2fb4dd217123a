"""The result of decoding a file."""

from dataclasses import dataclass

from torch import Tensor

from model_ext.imagebind.preprocess.options import Notes


@dataclass(frozen=True, slots=True)
class Sample:
    modality: str  # "audio" if the file was sent as a video but has no pictures.
    tensor: Tensor  # The encoder's input without batch axis; registry.py lists the shapes.
    notes: Notes
