"""All examples of a run, tokenised, with their embeddings at hand.

Joins examples, tokens and embeddings. Does not know epochs or processes.

Shapes: D embedding, A views.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.train.data.embeddings import SINGLE_WEIGHT
from model_ext.train.data.examples import Example
from model_ext.train.data.tokens import Encoded, InstructionForm, TextTokenizer, encode, pad


@dataclass(frozen=True, slots=True)
class Batch:
    ids: Tensor  # (B, L)
    labels: Tensor  # (B, L)
    embedding: Tensor  # (B, D)

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.labels.to(device), self.embedding.to(device))


class ConditionedText:
    """Examples by number; the embedding of a text-only one is that of the zero image."""

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: TextTokenizer,
        vectors: NDArray[np.float32],
        zero: Tensor,
        max_tokens: int,
        form: InstructionForm,
    ) -> None:
        self.examples, self.tokenizer = examples, tokenizer
        self.vectors, self.zero = vectors, zero  # (M, A, D), (D,)
        self.max_tokens, self.form = max_tokens, form
        self.row: dict[int, int] = {}  # example -> row of its vectors
        for number, example in enumerate(examples):
            if not example.text_only:
                self.row[number] = len(self.row)

    def __len__(self) -> int:
        return len(self.examples)

    def encoded(self, number: int) -> Encoded:
        example = self.examples[number]
        form = self.form if example.text_only else "plain"  # the tuple was text-only samples'
        return encode(example.turns, self.tokenizer, self.max_tokens, form)

    def embedding(self, number: int, epoch: int) -> Tensor:
        """(D,), as mixing a single input gives it. Epochs take turns with the views."""
        if number not in self.row:
            return self.zero * SINGLE_WEIGHT
        views = self.vectors[self.row[number]]
        return torch.from_numpy(views[(epoch + number) % len(views)].copy()) * SINGLE_WEIGHT

    def batch(self, numbers: Sequence[int], epoch: int = 0, length: int | None = None) -> Batch:
        ids, labels = pad([self.encoded(number) for number in numbers], length)
        return Batch(ids, labels, torch.stack([self.embedding(n, epoch) for n in numbers]))
