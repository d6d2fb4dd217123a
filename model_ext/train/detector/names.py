"""The embeddings that crops must get: those of their names, and those of their whole drawings.

A name's embedding is the mean over its texts, or, without texts, over its drawings.
Shapes: M drawings, K names, D embedding, C crops.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.07


@dataclass(frozen=True, slots=True)
class Names:
    bank: Tensor  # unit embeddings of the names (K, D)
    rows: Tensor  # the name of each drawing (M,)
    targets: Tensor  # unit embeddings of the drawings (M, D), each mixed with that of its name

    def to(self, device: torch.device) -> "Names":
        return Names(self.bank.to(device), self.rows.to(device), self.targets.to(device))

    def losses(self, vectors: Tensor, drawings: Tensor) -> tuple[Tensor, Tensor]:
        """Compare unit embeddings of crops (C, D) with those of their `drawings` (C,).

        Returns two means: the cross entropy between the similarities of a crop and of its name to
        all names, less its minimum, and 1 - cosine to the target.
        """
        if not len(vectors):
            return vectors.sum(), vectors.sum()
        expected = F.log_softmax(self.bank[self.rows[drawings]] @ self.bank.T / TEMPERATURE, -1)
        similar = F.log_softmax(vectors @ self.bank.T / TEMPERATURE, -1)
        divergence = F.kl_div(similar, expected, reduction="batchmean", log_target=True)
        distance = 1 - F.cosine_similarity(vectors, self.targets[drawings])
        return divergence, distance.mean()


def name_vectors(keys: Sequence[str], pictures: Tensor, texts: Mapping[str, Tensor]) -> Names:
    """`keys`: the names of the drawings, `pictures` (M, D): their unit embeddings, `texts`: name ->
    unit embeddings of its texts.
    """
    names = sorted(set(keys))
    number = {name: index for index, name in enumerate(names)}
    rows = torch.tensor([number[key] for key in keys])
    sums = torch.zeros(len(names), pictures.shape[1]).index_add(0, rows, pictures)
    for name, vectors in texts.items():
        if name in number:
            sums[number[name]] = vectors.sum(0)
    bank = F.normalize(sums, dim=-1)
    return Names(bank, rows, F.normalize(pictures + bank[rows], dim=-1))
