"""The form of all detectors: pictures and queries in, boxes with scores out.

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
    """What to look for: a text, or an embedding of a file or text of any modality."""

    text: str = ""
    vector: NDArray[np.float32] | None = None  # unit embedding (D,)
    modality: str = "text"


@dataclass(frozen=True, slots=True)
class Detection:
    query: int  # index of the query
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels of the picture
    score: float  # between 0 and 1


class Detector(Protocol):
    takes: Takes  # which field of a query the detector reads

    @property
    def threshold(self) -> float:
        """The score from which a thing counts as present, unless a request states another."""
        ...

    def detect(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        """Find the queries of each picture (H, W, 3).

        Returns the boxes of each picture whose scores are above `threshold`, by falling score.
        """
        ...
