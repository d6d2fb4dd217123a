"""The interface of all detectors. A detector gets pictures and queries, and returns boxes with
scores.

This module imports no model, so that every process can import it cheaply.
Shapes: D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Takes = Literal["texts", "vectors"]


@dataclass(frozen=True, slots=True)
class Query:
    """A thing to find: a text, or the embedding of a file or text of any modality."""

    text: str = ""
    vector: NDArray[np.float32] | None = None  # unit embedding (D,)
    modality: str = "text"


@dataclass(frozen=True, slots=True)
class Detection:
    query: int  # Index of the query.
    box: tuple[float, float, float, float]  # Left, top, right, bottom in pixels of the picture.
    score: float  # How sure the detector is, from 0 to 1.


class Detector(Protocol):
    takes: Takes  # the field of `Query` that the detector reads

    @property
    def threshold(self) -> float:
        """The minimum score of a thing that counts as present. Requests can set another."""
        ...

    def detect(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        """Find the queries of each picture (H, W, 3).

        Returns each picture's boxes with scores above `threshold`, from the highest score to the
        lowest.
        """
        ...
