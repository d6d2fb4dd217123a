"""OWLv2 (Minderer et al. 2023): every patch of the picture predicts a box for every query.

The picture is padded to a square and scaled to one size, so any pictures form a batch. The model
computes the boxes without the queries, so the number of queries does not change a query's scores.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from model_ext.grounding.hub.base import Picture, Raw, corners
from model_ext.hub_folder import load_model, load_part

FILLER = " "  # Padding for a picture that has fewer queries than another picture of its batch.


class Owlv2:
    threshold = 0.1

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._model, self._tokenizer, self._image_processor = model, tokenizer, image_processor

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device | str) -> "Owlv2":
        from transformers import AutoImageProcessor, AutoTokenizer, Owlv2ForObjectDetection

        model = load_model(Owlv2ForObjectDetection, folder, device)
        parts = (load_part(kind, folder) for kind in (AutoTokenizer, AutoImageProcessor))
        return cls(model, *parts)

    def raw(self, pictures: Sequence[Picture], texts: Sequence[Sequence[str]]) -> list[Raw]:
        device = self._model.device
        pixels = self._image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        count = max(map(len, texts))
        padded = [text for own in texts for text in (*own, *[FILLER] * (count - len(own)))]
        tokens = self._tokenizer(
            padded,
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        outputs = self._model(
            pixel_values=pixels.to(device, self._model.dtype),
            input_ids=tokens["input_ids"].to(device),
            attention_mask=tokens["attention_mask"].to(device),
        )
        boxes, scores = corners(outputs.pred_boxes.float()), outputs.logits.float().sigmoid()
        return [
            (boxes[row] * max(picture.shape[:2]), scores[row, :, : len(own)])
            for row, (picture, own) in enumerate(zip(pictures, texts, strict=True))
        ]
