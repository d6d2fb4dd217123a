"""The side model `detector`: finds the nouns of a text, and things in pictures.

Tasks:
    {"task": "nouns"} with `text`: returns {"nouns": [...]}, the fields of `Noun`.
    {"task": "detect"} with `queries` [{"text", "modality"}], `threshold` or null; array `pictures`
    (F, H, W, 3) uint8; array `vectors` (Q, D) if the detector takes embeddings. Returns the
    threshold, and for each frame a list of {"query", "score", "box"}.
Shapes: F frames of a task, Q queries, D embedding.
"""

import contextlib
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_ext.device import choose_device
from model_ext.grounding.detector import Detection, Detector, Query
from model_ext.grounding.folders import open_detector
from model_ext.grounding.nouns import NounParser
from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled

MAX_FRAMES = 8  # Maximum number of pictures in one call of the detector.
# Maximum number of detections of a frame; those with the highest scores are kept.
MAX_DETECTIONS = 2000
# Size of the pictures with which the GPU memory of a batch is measured at the start. The server
# scales larger pictures down to 2000 pixels. Grounding DINO scales a picture of this shape to the
# largest size that it processes, 800 x 1333 pixels.
PROBE = (1200, 2000, 3)


class GroundingModel:
    max_batch = 8

    def __init__(
        self, detector: Detector, parser: NounParser | None, device: str, gpu_bytes: int = 0
    ) -> None:
        """`parser`: None if spaCy is not installed."""
        self.device, self.gpu_bytes = device, gpu_bytes
        self._detector, self._parser = detector, parser

    def kind(self, document: Json) -> Hashable:
        match document.get("task"):
            case "nouns" if self._parser is None:
                raise TaskError(
                    "this server has no parser of nouns (bindserve[ground]);"
                    ' send "nouns": "model" instead'
                )
            case "nouns" | "detect" as task:
                return str(task)
        raise TaskError("unknown task")

    def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
        if tasks[0].data.document["task"] == "nouns":
            return self._nouns(tasks)
        return self._detect(tasks)

    def _nouns(self, tasks: Sequence[Task]) -> list[SideData]:
        assert self._parser is not None
        results = []
        for task in tasks:
            stop_if_cancelled(tasks)
            nouns = self._parser.nouns(str(task.data.document["text"]))
            results.append(SideData({"nouns": [asdict(noun) for noun in nouns]}))
        return results

    def _detect(self, tasks: Sequence[Task]) -> list[SideData]:
        queries = [queries_of(task.data) for task in tasks]
        thresholds = [self._threshold(task.data.document) for task in tasks]
        frames = [
            (index, picture)
            for index, task in enumerate(tasks)
            for picture in task.data.arrays["pictures"]
        ]
        results: list[list[list[Json]]] = [[] for _ in tasks]
        for start in range(0, len(frames), MAX_FRAMES):
            stop_if_cancelled(tasks)
            part = frames[start : start + MAX_FRAMES]
            # The detector gets the lowest threshold of all tasks. Each task's own threshold is
            # applied later.
            detections = self._detector.detect(
                [np.ascontiguousarray(picture) for _, picture in part],
                [queries[index] for index, _ in part],
                min(thresholds),
            )
            for (index, _), own in zip(part, detections, strict=True):
                results[index].append(described(own, thresholds[index]))
        return [
            SideData({"threshold": threshold, "frames": own})
            for threshold, own in zip(thresholds, results, strict=True)
        ]

    def _threshold(self, document: Json) -> float:
        value = document.get("threshold")
        return self._detector.threshold if value is None else float(value)


def queries_of(data: SideData) -> list[Query]:
    vectors = data.arrays.get("vectors")
    return [
        Query(
            str(query.get("text", "")),
            None if vectors is None else np.array(vectors[index], np.float32),
            str(query.get("modality", "text")),
        )
        for index, query in enumerate(data.document["queries"])
    ]


def described(detections: Sequence[Detection], threshold: float) -> list[Json]:
    return [
        {"query": each.query, "score": each.score, "box": list(each.box)}
        for each in detections[:MAX_DETECTIONS]
        if each.score > threshold
    ]


def load(
    folder: str, device: str = "auto", threads: int = 1, max_queries: int = 1
) -> GroundingModel:
    """Load a detector and, if it is installed, the parser of nouns. `threads`: the number of CPU
    threads. `max_queries`: the maximum number of queries of a task.

    Raises ConfigError, OSError, ImportError.
    """
    device = choose_device(device)
    torch.set_num_threads(threads)
    detector = open_detector(Path(folder), device)
    parser = None
    with contextlib.suppress(ImportError):  # requests that need the parser then get an error
        parser = NounParser.load()
    gpu_bytes = measure(detector, max_queries) if device.startswith("cuda") else 0
    return GroundingModel(detector, parser, device, gpu_bytes)


def measure(detector: Any, max_queries: int) -> int:
    """Measure the GPU memory in bytes that the detector, a batch of pictures and their queries
    need.
    """
    dim = getattr(detector, "embedding_dim", 1)
    queries = [Query("thing", np.eye(1, dim, dtype=np.float32)[0])] * max_queries
    pictures = [np.full(PROBE, 127, np.uint8)] * MAX_FRAMES
    torch.cuda.reset_peak_memory_stats()
    detector.detect(pictures, [queries] * MAX_FRAMES, 0.5)
    return int(torch.cuda.max_memory_reserved())
