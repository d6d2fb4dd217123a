"""The order of training examples, as in the released samplers.

The order is a function of the seed and the epoch, so that a resumed run gets the same examples as
an uninterrupted run.
"""

import torch


def epoch_indices(
    examples: int, epoch: int, split: int, rank: int, world: int, seed: int
) -> list[int]:
    """Return the example numbers of one process in one sub-epoch.

    `split` sub-epochs make one pass over the data. Rank r takes every (world * split)-th element of
    a permutation, starting at r * split + epoch % split. All ranks take the same number of
    elements. A pass omits the remainder of the permutation.
    """
    permutation = torch.randperm(
        examples, generator=torch.Generator().manual_seed(seed + epoch // split)
    )
    count = examples // (world * split)
    start, stride = rank * split + epoch % split, world * split
    return permutation[start::stride][:count].tolist()
