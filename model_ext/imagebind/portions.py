"""Split a batch into portions that pass through a network one after the other.

On a CPU, the activations of a portion fit into the processor's caches. The activations of a whole
batch have tens of megabytes: every pointwise operation would read them from memory, and the
operating system would zero this memory at each allocation. Larger portions do not make matrix
products faster. On a GPU, the batch is not split.
"""

import torch
from torch import Tensor

ROWS = 512  # rows of a matrix product, for each CPU thread


def portions(x: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Split x along its first axis. `rows`: the rows that one entry of this axis has in matrix
    products.

    Returns (x,) on a GPU. Does the same when gradients are recorded, because autograd keeps all
    activations anyway.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return (x,)
    return torch.split(x, max(1, ROWS * torch.get_num_threads() // rows))
