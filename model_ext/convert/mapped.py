"""Read a tensor of a memory-mapped file without keeping its pages.

The kernel counts mapped pages as the process's memory until it reclaims them. Without this module,
a 7B conversion would seem to need five times its memory.
"""

import ctypes
import mmap

import torch

LIBC = ctypes.CDLL(None)


def read_mapped(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy and release the pages. The next access reads the file again."""
    copy = tensor.clone(memory_format=torch.contiguous_format)
    storage = tensor.untyped_storage()
    page = mmap.PAGESIZE
    start = (
        -(-storage.data_ptr() // page) * page
    )  # whole pages only: other tensors share the first and last
    end = (storage.data_ptr() + storage.nbytes()) // page * page
    if end > start:
        LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
    return copy
