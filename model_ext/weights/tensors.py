"""A tensor whose name, shape and type are known before it is read or computed.

A conversion holds one tensor in memory at a time. A LazyTensor holds the function that reads it.
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
        """Read the tensor: contiguous, of this shape and type."""
        tensor = self.read().to(self.dtype).contiguous()
        assert tensor.shape == self.shape, f"{self.name}: {tuple(tensor.shape)} is not {self.shape}"
        return tensor

    def then(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "LazyTensor":
        """The same tensor with `change` applied after reading. `change` must keep the shape."""
        return replace(self, read=lambda: change(self.read()))
