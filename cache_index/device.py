"""The device that searches an index: the first GPU, if one exists and has enough memory, or else
the CPU. Only this file and `free_gpu_bytes` in `exact.py` contain code that needs a GPU. A GPU
index cannot return vectors by id, so `vectors.py` stores them, and it allows calls from one thread
only, so `owner.py` has one thread per index. The tests replace FAISS's GPU functions.
docs/decisions/0003 lists the source code of FAISS on which each line relies.
"""

import logging
import os
from dataclasses import dataclass
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from cache_index.errors import CacheError
from cache_index.exact import ExactIndex, free_gpu_bytes, resident_bytes
from cache_index.manifest import INDEX, Manifest

logger = logging.getLogger(__name__)

Device = Literal["auto", "cpu", "cuda"]

# Bytes of temporary memory that FAISS allocates on a GPU of more than 8 GiB.
FAISS_SCRATCH_BYTES = 1536 << 20
# A file of NVIDIA's driver, which exists only on machines with a GPU.
NVIDIA_DRIVER = "/dev/nvidiactl"
SHARE = 0.5  # Share of free GPU memory to use if the caller sets no limit.

# On a GPU, FAISS raises an error for a search with more candidates or more visited cells than this.
MAX_CANDIDATES = 2048
# With more candidates than this, FAISS on a GPU aborts the process if the index is an SQ index.
MAX_SCALAR_CANDIDATES = 512

ON_GPU = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)


@dataclass(frozen=True, slots=True)
class Placement:
    """The operator's choice of a device. "auto": a GPU if there is one."""

    device: Device = "auto"
    # default: half of the GPU memory that is free when the cache is opened
    max_gpu_bytes: int | None = None


AUTO = Placement()


def place(index: Any, rows: NDArray[np.floating], placement: Placement) -> Any:
    """Return the index that searches the stored rows (N, D).

    On a CPU, this is `index`. On a GPU, this is an ExactIndex if the rows fit into the memory, and
    otherwise a copy of `index` on the GPU.
    Raises CacheError: when the device is "cuda" and there is no GPU.
    """
    if placement.device == "cpu":
        return index
    required = placement.device == "cuda"
    free = free_gpu_bytes() if required or os.path.exists(NVIDIA_DRIVER) else 0
    if required and not free:
        raise CacheError("device cuda: torch finds no GPU; use cpu, or auto to search on either")
    count, dimension = rows.shape
    if exact_fits(count, dimension, placement, free):
        try:
            return ExactIndex.load(rows, "cuda")
        # the norms of the rows do not suit float16, or the GPU lacks memory
        except (ValueError, RuntimeError) as error:
            logger.warning("no exact search on the GPU: %s", error)
    return place_faiss(index)


def exact_fits(count: int, dimension: int, placement: Placement, free: int) -> bool:
    """Whether `place` would choose the exact search if `free` bytes of the GPU are free."""
    limit = int(SHARE * free)
    if placement.max_gpu_bytes is not None:
        limit = min(placement.max_gpu_bytes, free)
    return resident_bytes(count, dimension) <= limit


def planned_gpu_bytes(manifest: Manifest, placement: Placement, free: int) -> int:
    """Return the bytes of GPU memory that `place` uses for this cache.

    For an index of FAISS, the result is an upper bound.
    """
    if placement.device == "cpu" or manifest.shuffled:
        return 0
    if exact_fits(manifest.count, manifest.dimension, placement, free):
        return resident_bytes(manifest.count, manifest.dimension)
    return manifest.files[INDEX].bytes + FAISS_SCRATCH_BYTES if faiss.get_num_gpus() else 0


def place_faiss(index: Any) -> Any:
    """Copy the index to the first GPU with FAISS. Return `index` if FAISS cannot copy it."""
    if faiss.get_num_gpus() == 0:
        return index
    if not isinstance(index, ON_GPU):
        logger.warning("%s is not a GPU index: searching on the CPU", type(index).__name__)
        return index
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True  # Halves the memory of Flat indexes and of PQ's tables.
    options.use_cuvs = False  # cuVS, the default in some builds, cannot clone SQ indexes.
    if isinstance(index, faiss.IndexIVF):
        # Reset nprobe, because an index with a large nprobe cannot be cloned. `Searcher.apply` sets
        # it again.
        index.nprobe = 1
    resources = faiss.StandardGpuResources()
    try:
        placed: Any = faiss.index_cpu_to_gpu(resources, 0, index, options)
    except RuntimeError as error:  # the GPU lacks memory, or does not support the kind of index
        logger.warning("the index does not fit on the GPU, searching on the CPU: %s", error)
        return index
    # Keep a reference to the resources, because the index itself has none, and they must not be
    # garbage-collected.
    placed.referenced_objects = [resources]
    return placed


def max_candidates(index: Any) -> int:
    """Return the maximum number of candidates in one search of this index."""
    scalar = type(index).__name__ == "GpuIndexIVFScalarQuantizer"
    return MAX_SCALAR_CANDIDATES if scalar else MAX_CANDIDATES


def max_cells(index: Any) -> int:
    """Return the maximum number of cells that a search can visit. 0 for an index without cells."""
    cells = int(getattr(index, "nlist", 0))
    return min(MAX_CANDIDATES, cells) if type(index).__name__.startswith("Gpu") else cells


def name_of(index: Any) -> str:
    """Name the search algorithm and its device, for logs and reports."""
    if isinstance(index, ExactIndex):
        return f"exact in float16 on {index.device}"
    return f"{type(index).__name__} of FAISS"
