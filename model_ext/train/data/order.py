"""The order of examples: the released samplers as functions of the seed and the epoch.

The order has no other state, so a resumed run continues with the examples of an uninterrupted run.
"""

import torch


def epoch_indices(
    examples: int, epoch: int, split: int, rank: int, world: int, seed: int
) -> list[int]:
    """The example numbers of one process in one sub-epoch; `split` sub-epochs make one pass.

    Rank r takes every (world * split)-th element of a permutation, starting at
    r * split + epoch % split. All ranks take equally many elements; a pass omits the remainder of
    the permutation.
    """
    permutation = torch.randperm(
        examples, generator=torch.Generator().manual_seed(seed + epoch // split)
    )
    count = examples // (world * split)
    start, stride = rank * split + epoch % split, world * split
    return permutation[start::stride][:count].tolist()
