"""The result of embedding a file."""

from dataclasses import dataclass, field

from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import Notes


@dataclass(frozen=True, slots=True)
class Embedded:
    modality: str  # The modality that was encoded: "audio" for a video file without pictures.
    embedding: Vector  # A unit vector (D,).
    notes: Notes = field(default_factory=dict)  # What the file's reader did.

    def __post_init__(self) -> None:
        self.embedding.setflags(write=False)  # many requests share a cached result

    @property
    def nbytes(self) -> int:
        return self.embedding.nbytes
