"""The training set: batches of token ids, labels and embeddings.

A batch depends only on the indices of its examples and on the epoch. `order.py` chooses these
indices and distributes them over the training processes.

Shapes: B samples, L tokens, M examples with a picture, A views of each, D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from model_ext.train.data.embeddings import SINGLE_WEIGHT
from model_ext.train.data.examples import Example, distinct_pictures
from model_ext.train.data.tokens import InstructionForm, TokenizedSample, pad, tokenize
from model_ext.train.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class Batch:
    ids: Tensor  # The token ids (B, L).
    labels: Tensor  # The labels (B, L).
    embedding: Tensor  # The embeddings (B, D).

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.ids.to(device), self.labels.to(device), self.embedding.to(device))


class ConditionedText:
    """The training examples, by number. A text-only example has the embedding of the zero image,
    which represents "no picture".
    """

    def __init__(
        self,
        examples: Sequence[Example],
        tokenizer: TextTokenizer,
        vectors: NDArray[np.float32],
        zero: Tensor,
        max_tokens: int,
        form: InstructionForm,
        noise: float = 0.0,
    ) -> None:
        """`noise`: the largest standard deviation of the noise that is added to embeddings of
        pictures.
        """
        self.examples, self.tokenizer = examples, tokenizer
        self.vectors, self.zero = vectors, zero  # shapes (M, A, D) and (D,)
        self.max_tokens, self.form, self.noise = max_tokens, form, noise
        # Number of an example -> row of its embedding in `vectors`.
        _, self.row = distinct_pictures(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def tokenized(self, number: int) -> TokenizedSample:
        example = self.examples[number]
        # In the released code, the prompt of text-only samples contains the instruction as a Python
        # tuple.
        form = self.form if example.text_only else "plain"
        return tokenize(example.turns, self.tokenizer, self.max_tokens, form, example.system)

    def length(self, number: int) -> int:
        """Return the number of characters of an example."""
        example = self.examples[number]
        return len(example.system) + sum(
            len(turn.instruction) + len(turn.input) + len(turn.answer) for turn in example.turns
        )

    def embedding(self, number: int, epoch: int) -> Tensor:
        """Return the picture's embedding (D,), scaled as the server scales that of a single
        attachment. Each epoch uses the next view.
        """
        if number not in self.row:
            return self.zero * SINGLE_WEIGHT
        views = self.vectors[self.row[number]]
        view = torch.from_numpy(views[(epoch + number) % len(views)].copy())
        if self.noise:
            view = noisy(view, self.noise, np.random.default_rng([epoch, number]))
        return view * SINGLE_WEIGHT

    def batch(self, numbers: Sequence[int], epoch: int = 0, length: int | None = None) -> Batch:
        ids, labels = pad([self.tokenized(number) for number in numbers], length)
        return Batch(ids, labels, torch.stack([self.embedding(n, epoch) for n in numbers]))


def noisy(view: Tensor, noise: float, rng: np.random.Generator) -> Tensor:
    """Add normal noise to an embedding (D,) of length 1, and scale the sum to length 1. The
    standard deviation is uniform between 0 and `noise`.
    """
    scale = rng.uniform(0, noise)
    added = scale * rng.standard_normal(len(view), np.float32)
    return F.normalize(view + torch.from_numpy(added), dim=0)
