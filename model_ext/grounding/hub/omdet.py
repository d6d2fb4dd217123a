"""OmDet-Turbo (Zhao et al. 2024): it gets the queries and a task, which is a text such as "Detect
cat, dog.".

transformers' processor of this model needs torchvision, so this module prepares the inputs itself.
Each picture has its own task with all its queries, so pictures with different queries can share a
batch. The model pads the queries of a batch with zeros, which compete with the queries when it
selects candidate boxes. Therefore this module repeats a picture's last query instead.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from model_ext.grounding.hub.base import Picture, Raw, corners
from model_ext.hub_folder import load_model, load_part

MAX_TOKENS = 77


class OmDet:
    threshold = 0.3

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._model, self._tokenizer, self._image_processor = model, tokenizer, image_processor

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device | str) -> "OmDet":
        from transformers import AutoImageProcessor, AutoTokenizer, OmDetTurboForObjectDetection

        model = load_model(OmDetTurboForObjectDetection, folder, device)
        parts = (load_part(kind, folder) for kind in (AutoTokenizer, AutoImageProcessor))
        return cls(model, *parts)

    def raw(self, pictures: Sequence[Picture], texts: Sequence[Sequence[str]]) -> list[Raw]:
        device = self._model.device
        pixels = self._image_processor(list(pictures), return_tensors="pt")["pixel_values"]
        tasks = self._tokens([f"Detect {', '.join(own)}." for own in texts])
        count = max(map(len, texts))
        padded = [text for own in texts for text in (*own, *[own[-1]] * (count - len(own)))]
        classes = self._tokens(padded)
        outputs = self._model(
            pixel_values=pixels.to(device, self._model.dtype),
            classes_input_ids=classes["input_ids"],
            classes_attention_mask=classes["attention_mask"],
            tasks_input_ids=tasks["input_ids"],
            tasks_attention_mask=tasks["attention_mask"],
            classes_structure=torch.tensor([count] * len(texts), device=device),
        )
        boxes = corners(outputs.decoder_coord_logits.float())
        scores = outputs.decoder_class_logits.float().sigmoid()
        results = []
        for row, (picture, own) in enumerate(zip(pictures, texts, strict=True)):
            height, width = picture.shape[:2]
            size = boxes.new_tensor([width, height, width, height])
            results.append((boxes[row] * size, scores[row, :, : len(own)]))
        return results

    def _tokens(self, texts: Sequence[str]) -> Any:
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        return tokens.to(self._model.device)
