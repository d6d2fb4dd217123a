"""The result of embedding a file."""

from dataclasses import dataclass, field

from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import Notes


@dataclass(frozen=True, slots=True)
class Embedded:
    # The modality that was encoded. It is "audio" for a video file without pictures.
    modality: str

    # Shape (D + 1,): the embedding with length 1, and its norm before normalisation as the last
    # element.
    numbers: Vector

    # Notes about how the file was read, for example the number of damaged packets that were
    # skipped.
    notes: Notes = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers.setflags(write=False)  # read-only, because many requests share a cached result

    @property
    def nbytes(self) -> int:
        notes = sum(len(name) + len(str(value)) for name, value in self.notes.items())
        return self.numbers.nbytes + notes

    @property
    def unit(self) -> Vector:
        """The unit embedding (D,)."""
        return self.numbers[:-1]

    @property
    def scaled(self) -> Vector:
        """ImageBind's output (D,), without normalisation to unit length."""
        embedding: Vector = self.numbers[:-1] * self.numbers[-1]
        return embedding
