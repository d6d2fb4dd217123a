"""Which example comes when: the released samplers, as functions of the seed and the epoch.

Because nothing is drawn on the way, a resumed run sees what the uninterrupted one would have seen.
"""

import torch


def epoch_indices(
    examples: int, epoch: int, split: int, rank: int, world: int, seed: int
) -> list[int]:
    """The examples of one process in one (sub-)epoch; `split` sub-epochs are one pass.

    Rank r takes every (world * split)-th element of a permutation from r * split + epoch % split,
    all ranks equally many; what is left over waits for the next pass.
    """
    permutation = torch.randperm(
        examples, generator=torch.Generator().manual_seed(seed + epoch // split)
    )
    count = examples // (world * split)
    start, stride = rank * split + epoch % split, world * split
    return permutation[start::stride][:count].tolist()
