"""The result of embedding a file."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

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

    cached: bool = False  # Whether the result cache had the embedding.
    # Shape (D,): the output of the encoder's head, which conditions a decoder of pictures. None if
    # the server has no decoder.
    prenorm: Vector | None = None

    def __post_init__(self) -> None:
        # Many requests share a cached result.
        self.numbers.setflags(write=False)
        if self.prenorm is not None:
            self.prenorm.setflags(write=False)

    @classmethod
    def of(cls, modality: str, vectors: Vector, notes: Notes, *, prenorm: bool) -> Self:
        """Split the numbers that the encoders return: (D + 1,) or, with `prenorm`, (2 D + 1,)."""
        if not prenorm:
            return cls(modality, vectors, notes)
        dim = len(vectors) // 2
        return cls(modality, vectors[: dim + 1], notes, prenorm=vectors[dim + 1 :])

    @property
    def vectors(self) -> Vector:
        """The numbers in the order in which the encoders return them, as `of` describes."""
        return self.numbers if self.prenorm is None else np.append(self.numbers, self.prenorm)

    @property
    def nbytes(self) -> int:
        notes = sum(len(name) + len(str(value)) for name, value in self.notes.items())
        return self.vectors.nbytes + notes

    @property
    def unit(self) -> Vector:
        """The unit embedding (D,)."""
        return self.numbers[:-1]

    @property
    def scaled(self) -> Vector:
        """ImageBind's output (D,), without normalisation to unit length."""
        embedding: Vector = self.numbers[:-1] * self.numbers[-1]
        return embedding
