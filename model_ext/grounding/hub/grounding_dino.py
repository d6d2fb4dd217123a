"""Grounding DINO (Liu et al. 2023): one prompt contains all queries, "a cat. a dog.".

A box has a score for each token of the prompt. A query's score is the largest score of its tokens.
Padding a picture to the largest one of its batch would change its results. Therefore all pictures
of a batch have the same size, and all prompts the same length.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_ext.grounding.hub.base import Picture, Raw, corners, load_model, load_part

SEPARATOR = "."
SEPARATORS = re.compile(r"[.?]")  # The model separates phrases at these characters.
EMPTY = "thing"  # Replaces a query that has only these characters.


class GroundingDino:
    threshold = 0.25

    def __init__(self, model: Any, tokenizer: Any, image_processor: Any) -> None:
        self._model, self._tokenizer, self._image_processor = model, tokenizer, image_processor

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device | str) -> "GroundingDino":
        from transformers import (
            AutoImageProcessor,
            AutoTokenizer,
            GroundingDinoForObjectDetection,
        )

        model = load_model(GroundingDinoForObjectDetection, folder, device)
        parts = (load_part(kind, folder) for kind in (AutoTokenizer, AutoImageProcessor))
        return cls(model, *parts)

    def raw(self, pictures: Sequence[Picture], texts: Sequence[Sequence[str]]) -> list[Raw]:
        prompts = [(row, part) for row, own in enumerate(texts) for part in self._prompts(own)]
        groups = defaultdict[tuple[Any, ...], list[int]](list)
        for index, (row, part) in enumerate(prompts):
            groups[(*pictures[row].shape[:2], sum(map(len, part)))].append(index)
        results: dict[int, Raw] = {}
        for group in groups.values():
            own = [prompts[index] for index in group]
            batch = self._batch([pictures[row] for row, _ in own], [part for _, part in own])
            results |= dict(zip(group, batch, strict=True))
        merged: list[Raw] = []
        for row in range(len(pictures)):
            parts = [results[index] for index, (own_row, _) in enumerate(prompts) if own_row == row]
            merged.append(join(parts))
        return merged

    def _prompts(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Split queries into prompts that are short enough. A prompt consists of the tokens of its
        queries, and each query ends with the separator token.
        """
        max_tokens = self._model.config.max_text_len - 2  # [CLS] and [SEP]
        prompts: list[list[list[int]]] = [[]]
        for text in texts:
            phrase = " ".join(SEPARATORS.sub(" ", text).lower().split()) or EMPTY
            own = self._tokenizer(phrase + SEPARATOR, add_special_tokens=False)["input_ids"]
            own = [*own[: max_tokens - 1], own[-1]] if len(own) > max_tokens else own
            if sum(map(len, prompts[-1])) + len(own) > max_tokens:
                prompts.append([])
            prompts[-1].append(own)
        return prompts

    def _batch(
        self, pictures: Sequence[Picture], prompts: Sequence[Sequence[Sequence[int]]]
    ) -> list[Raw]:
        """All pictures must have the same size, and all prompts the same length."""
        device = self._model.device
        pixels = self._image_processor(list(pictures), return_tensors="pt")
        first, last = self._tokenizer.cls_token_id, self._tokenizer.sep_token_id
        ids = torch.tensor(
            [[first, *(token for query in own for token in query), last] for own in prompts]
        ).to(device)
        outputs = self._model(
            pixel_values=pixels["pixel_values"].to(device, self._model.dtype),
            pixel_mask=pixels["pixel_mask"].to(device),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),
        )
        boxes, scores = corners(outputs.pred_boxes.float()), outputs.logits.float().sigmoid()
        return [
            (boxes[row] * _size(picture, boxes), of_queries(scores[row], own))
            for row, (picture, own) in enumerate(zip(pictures, prompts, strict=True))
        ]


def of_queries(scores: Tensor, prompt: Sequence[Sequence[int]]) -> Tensor:
    """Convert the scores (N, T) of a prompt's tokens to the scores (N, Q) of its queries."""
    columns, start = [], 1  # the first token is [CLS]
    for query in prompt:
        tokens = len(query) - 1  # the query's tokens without the separator
        columns.append(scores[:, start : start + max(1, tokens)].amax(1))
        start += len(query)
    return torch.stack(columns, dim=1)


def join(parts: Sequence[Raw]) -> Raw:
    """Join the results of a picture's prompts. A box has score 0 for the queries of the other
    prompts.
    """
    if len(parts) == 1:
        return parts[0]
    total = sum(scores.shape[1] for _, scores in parts)
    rows, first = [], 0
    for boxes, scores in parts:
        wide = scores.new_zeros(len(boxes), total)
        wide[:, first : first + scores.shape[1]] = scores
        first += scores.shape[1]
        rows.append(wide)
    return torch.cat([boxes for boxes, _ in parts]), torch.cat(rows)


def _size(picture: Picture, like: Tensor) -> Tensor:
    height, width = picture.shape[:2]
    return like.new_tensor([width, height, width, height])
