"""A tensor that is named and measured now and read or computed later.

A 7B model passes through memory one tensor at a time; nothing here holds more than a recipe.
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
        """The tensor, contiguous and of the promised shape and type."""
        tensor = self.read().to(self.dtype).contiguous()
        assert tensor.shape == self.shape, f"{self.name}: {tuple(tensor.shape)} is not {self.shape}"
        return tensor

    def then(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "LazyTensor":
        """The same tensor, changed after reading; `change` keeps the shape."""
        return replace(self, read=lambda: change(self.read()))
