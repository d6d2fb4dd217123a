"""A tensor whose name, shape and type are known before it is read or computed.

A LazyTensor contains the function that reads the tensor, so that a conversion needs memory for only
one tensor at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True, slots=True)
class LazyTensor:
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize

    def load(self) -> torch.Tensor:
        """Read the tensor. It is contiguous and has this shape and dtype."""
        tensor = self.read().to(self.dtype).contiguous()
        assert tensor.shape == self.shape, f"{self.name}: {tuple(tensor.shape)} is not {self.shape}"
        return tensor

    def then(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "LazyTensor":
        """Return a tensor that applies `change` after reading. `change` must keep the shape."""
        return replace(self, read=lambda: change(self.read()))
