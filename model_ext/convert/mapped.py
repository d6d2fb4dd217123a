"""Read a tensor of a memory-mapped file without keeping its pages.

Mapped pages count as the process's memory until somebody else needs it; a 7B conversion would look
five times as large as it is.
"""

import ctypes
import mmap

import torch

LIBC = ctypes.CDLL(None)


def read_mapped(tensor: torch.Tensor) -> torch.Tensor:
    """A copy. The mapping stays valid: the next access reads the file again."""
    copy = tensor.clone(memory_format=torch.contiguous_format)
    storage = tensor.untyped_storage()
    page = mmap.PAGESIZE
    start = -(-storage.data_ptr() // page) * page  # only whole pages: the edges are a neighbour's
    end = (storage.data_ptr() + storage.nbytes()) // page * page
    if end > start:
        LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
    return copy
