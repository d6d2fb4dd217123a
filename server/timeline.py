"""Timeline: what one request spent its time on. Noted by `metrics.py` as stages end, and by the
choke point as generation begins; read by the request log and by traces. Knows neither."""

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Span:
    stage: str
    modality: str  # "" for stages of the whole request
    start: float  # seconds since the epoch
    seconds: float
    failed: bool


@dataclass(slots=True)
class Timeline:
    spans: list[Span] = field(default_factory=list)
    attachments: Counter[str] = field(default_factory=Counter)  # by modality
    generating: float | None = None  # since when, by time.perf_counter

    def begin_generating(self) -> None:
        """Several prompts, choices and beams of one request begin once."""
        if self.generating is None:
            self.generating = time.perf_counter()
