"""The result of embedding a file."""

from dataclasses import dataclass, field

from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import Notes


@dataclass(frozen=True, slots=True)
class Embedded:
    modality: str  # The modality that was encoded: "audio" for a video file without pictures.
    numbers: Vector  # The unit embedding and its length before the normalisation (D + 1,).
    notes: Notes = field(default_factory=dict)  # Facts that the file's reader reports.

    def __post_init__(self) -> None:
        self.numbers.setflags(write=False)  # many requests share a cached result

    @property
    def nbytes(self) -> int:
        return self.numbers.nbytes

    @property
    def unit(self) -> Vector:
        """The unit embedding (D,)."""
        return self.numbers[:-1]

    @property
    def scaled(self) -> Vector:
        """ImageBind's own output (D,), which has not unit length."""
        embedding: Vector = self.numbers[:-1] * self.numbers[-1]
        return embedding
