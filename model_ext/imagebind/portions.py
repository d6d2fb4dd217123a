"""Split a batch into portions that pass through a network one after the other.

On a GPU the batch is not split. On a CPU a portion's activations fit into the caches: the
activations of a whole batch have tens of megabytes, so that every pointwise operation would read
them from memory. The operating system would also zero this memory at each allocation. Larger
portions do not make matrix products faster.
"""

import torch
from torch import Tensor

ROWS = 512  # rows of a matrix product per CPU thread


def portions(x: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Split x along its first axis. Each entry of this axis adds `rows` rows to matrix products.

    Returns (x,) on a GPU. Does the same when gradients are recorded, because autograd keeps all
    activations anyway.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return (x,)
    return torch.split(x, max(1, ROWS * torch.get_num_threads() // rows))
