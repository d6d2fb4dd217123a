"""How much of a batch goes through a network at a time.

On a GPU all of it. On a CPU what stays in its caches: a layer's activations of a whole batch are
tens of megabytes, which every pointwise step would fetch from memory and, fresh from the system,
have zeroed. Products gain nothing from more rows than these. Knows rows, not what they stand for.
"""

import torch
from torch import Tensor

ROWS = 512  # of a matrix product, for each thread


def portions(x: Tensor, rows: int) -> tuple[Tensor, ...]:
    """Cut x along its first axis; each entry there is `rows` rows of the products to come.

    Whole on a GPU, and where gradients are wanted, whose memory is held for all of it anyway.
    """
    if x.device.type != "cpu" or torch.is_grad_enabled():
        return (x,)
    return torch.split(x, max(1, ROWS * torch.get_num_threads() // rows))
