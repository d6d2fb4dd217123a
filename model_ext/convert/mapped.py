"""Read a tensor of a memory-mapped file, and release the file's pages from memory.

The kernel counts mapped pages as the process's memory until it reclaims them. Without this module,
a 7B conversion would seem to need five times its memory.
"""

import ctypes
import mmap

import torch

LIBC = ctypes.CDLL(None)


def read_mapped(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of the tensor and release its pages. The next access reads the file again."""
    copy = tensor.clone(memory_format=torch.contiguous_format)
    storage = tensor.untyped_storage()
    page = mmap.PAGESIZE
    start = (
        -(-storage.data_ptr() // page) * page
    )  # release only pages that contain no bytes of other tensors
    end = (storage.data_ptr() + storage.nbytes()) // page * page
    if end > start:
        LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)
    return copy
