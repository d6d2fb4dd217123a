"""The expert for objects: it names the things in pictures with an image classifier of transformers.

A task's array `pictures` is (F, H, W, 3) uint8 RGB. Its result has the labels with the highest
scores. The score of a label is its highest score in a frame.
Shapes: F frames of a task, H height, W width, N pictures, C labels of the classifier.
"""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForImageClassification

from model_ext.device import choose_device
from model_ext.errors import ConfigError
from model_ext.hub_folder import check_classifier, load_model, load_part
from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled

SEVERAL = "multi_label_classification"  # problem type of classifiers whose labels are independent
THRESHOLD = 0.2  # the minimum score of a label, unless the operator sets another
MAX_LABELS = 10
MAX_PICTURES = 8  # maximum number of pictures in one call of the classifier
PROBE = (640, 640, 3)  # size of the pictures with which the GPU memory of a call is measured

Picture = NDArray[np.uint8]


class Objects:
    max_batch = 8

    def __init__(
        self, model: Any, image_processor: Any, threshold: float = THRESHOLD, threads: int = 1
    ) -> None:
        """`threshold`: the minimum score of a label. `threads`: the number of CPU threads."""
        self._model, self._image_processor = model, image_processor
        self._threshold, self._threads = threshold, threads
        self.device = str(model.device)
        self.gpu_bytes = self._warm_up() if model.device.type == "cuda" else 0

    def kind(self, document: Json) -> Hashable:
        if document:
            raise TaskError("recognizing objects has no options")
        return None

    def run(self, tasks: Sequence[Task]) -> list[SideData]:
        torch.set_num_threads(self._threads)
        pictures = [
            (index, picture)
            for index, task in enumerate(tasks)
            for picture in frames(task.data.arrays["pictures"])
        ]
        # A file without pictures keeps -1, which is below every threshold.
        best = torch.full((len(tasks), self._model.config.num_labels), -1.0)
        for start in range(0, len(pictures), MAX_PICTURES):
            stop_if_cancelled(tasks)
            part = pictures[start : start + MAX_PICTURES]
            scores = self.scores([picture for _, picture in part])
            for (index, _), own in zip(part, scores, strict=True):
                best[index] = torch.maximum(best[index], own)
        return [SideData({"labels": self._labels(own)}) for own in best]

    @torch.inference_mode()
    def scores(self, pictures: Sequence[Picture]) -> Tensor:
        """Classify pictures (H, W, 3): scores (N, C) from 0 to 1."""
        pixels = torch.cat(
            [
                self._image_processor([np.ascontiguousarray(each)], return_tensors="pt")[
                    "pixel_values"
                ]
                for each in pictures
            ]
        )
        logits = self._model(pixels.to(self._model.device, self._model.dtype)).logits.float().cpu()
        several = self._model.config.problem_type == SEVERAL
        scores: Tensor = logits.sigmoid() if several else logits.softmax(-1)
        return scores

    def _labels(self, scores: Tensor) -> list[str]:
        """The labels with scores (C,) of at least the threshold, from the highest to the lowest."""
        order = scores.argsort(descending=True, stable=True)[:MAX_LABELS].tolist()
        names = self._model.config.id2label
        chosen = [str(names[each]) for each in order if scores[each] >= self._threshold]
        # A label of ImageNet is a list of synonyms.
        return list(dict.fromkeys(each.split(",")[0].strip() for each in chosen))

    def _warm_up(self) -> int:
        """Classify the largest batch. Returns the GPU memory in bytes that the process needs."""
        torch.cuda.reset_peak_memory_stats()
        self.scores([np.full(PROBE, 127, np.uint8)] * MAX_PICTURES)
        return int(torch.cuda.max_memory_reserved())


def frames(pictures: NDArray[np.uint8]) -> Sequence[Picture]:
    """The pictures of a task. A file without pictures has an array (0,)."""
    return list(pictures) if pictures.ndim == 4 else []


def load(
    folder: str, device: str = "auto", threads: int = 1, threshold: float | None = None
) -> Objects:
    """Load an image classifier. `threshold`: the minimum score of a label; None means THRESHOLD.

    Raises ConfigError: when the folder has none.
    """
    device = choose_device(device)
    path = Path(folder)
    check_classifier(path)
    try:
        model = load_model(AutoModelForImageClassification, path, device)
        processor = load_part(AutoImageProcessor, path)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    return Objects(model, processor, THRESHOLD if threshold is None else threshold, threads)
