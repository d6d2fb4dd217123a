"""Split a batch into portions that pass through a network one after the other.

On a GPU the batch stays whole. On a CPU a portion's activations fit into the caches: those of a
whole batch are tens of megabytes, which every pointwise operation would read from memory and the
system would zero at allocation. Matrix products do not get faster with more rows than these.
"""

import torch
from torch import Tensor

ROWS = 512  # of a matrix product, per thread


def portions(x: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Split x along its first axis, each entry of which is `rows` rows of the matrix products.

    Returns x whole on a GPU, and when gradients are recorded: these keep all activations anyway.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return (x,)
    return torch.split(x, max(1, ROWS * torch.get_num_threads() // rows))
