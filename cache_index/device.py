"""The device that searches an index: the first GPU, if there is one and it has room, or the CPU.

These lines are the only ones that need a GPU, with `free_gpu_bytes` in `exact.py`. A GPU index
does not return vectors by id (`vectors.py` stores them) and allows calls from one thread only
(`owner.py` has one thread per index). The tests use stand-ins; docs/decisions/0003 lists the FAISS
source that each line was checked against.
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

FAISS_SCRATCH_BYTES = 1536 << 20  # what StandardGpuResources allocates on a card above 8 GiB
NVIDIA_DRIVER = "/dev/nvidiactl"  # checked before torch is imported, which takes seconds
SHARE = 0.5  # of the free GPU memory, where the caller sets no limit

MAX_CANDIDATES = 2048  # of a query, and cells visited for it: a GPU index raises beyond
MAX_SCALAR_CANDIDATES = 512  # of GpuIndexIVFScalarQuantizer at our widths; it aborts beyond

ON_GPU = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)


@dataclass(frozen=True, slots=True)
class Placement:
    """The operator's choice of a device. "auto": a GPU if there is one."""

    device: Device = "auto"
    max_gpu_bytes: int | None = None  # default: half of what is free when the cache is opened


AUTO = Placement()


def place(index: Any, rows: NDArray[np.floating], placement: Placement) -> Any:
    """The index that searches the stored rows (N, D) in place of `index`, or `index` itself.

    On a GPU, an exact search in torch if the rows fit, and otherwise FAISS's GPU index.
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
        except (ValueError, RuntimeError) as error:  # norms, or out of device memory
            logger.warning("no exact search on the GPU: %s", error)
    return place_faiss(index)


def exact_fits(count: int, dimension: int, placement: Placement, free: int) -> bool:
    """Whether `place` chooses the exact search when `free` bytes of the GPU are free."""
    limit = int(SHARE * free)
    if placement.max_gpu_bytes is not None:
        limit = min(placement.max_gpu_bytes, free)
    return resident_bytes(count, dimension) <= limit


def planned_gpu_bytes(manifest: Manifest, placement: Placement, free: int) -> int:
    """The GPU memory that `place` takes for this cache; for FAISS's index, an upper bound."""
    if placement.device == "cpu":
        return 0
    if exact_fits(manifest.count, manifest.dimension, placement, free):
        return resident_bytes(manifest.count, manifest.dimension)
    return manifest.files[INDEX].bytes + FAISS_SCRATCH_BYTES if faiss.get_num_gpus() else 0


def place_faiss(index: Any) -> Any:
    """FAISS's copy of the index on the first GPU, or `index` where FAISS cannot copy it."""
    if faiss.get_num_gpus() == 0:
        return index
    if not isinstance(index, ON_GPU):
        logger.warning("%s is not a GPU index: searching on the CPU", type(index).__name__)
        return index
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True  # Flat: half the memory; PQ: tables that fit, of 56 parts and more
    options.use_cuvs = False  # the default of a cuVS build, which clones no scalar quantizer
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = 1  # cloning raises beyond MAX_CANDIDATES; `Searcher.apply` sets it later
    resources = faiss.StandardGpuResources()
    try:
        placed: Any = faiss.index_cpu_to_gpu(resources, 0, index, options)
    except RuntimeError as error:  # out of device memory, or a kind that this build lacks
        logger.warning("the index does not fit on the GPU, searching on the CPU: %s", error)
        return index
    placed.referenced_objects = [resources]  # must outlive the index; FAISS holds no reference
    return placed


def max_candidates(index: Any) -> int:
    """The largest number of neighbors of one search."""
    scalar = type(index).__name__ == "GpuIndexIVFScalarQuantizer"
    return MAX_SCALAR_CANDIDATES if scalar else MAX_CANDIDATES


def max_cells(index: Any) -> int:
    """The largest number of cells that a search visits; 0 for an index without cells."""
    cells = int(getattr(index, "nlist", 0))
    return min(MAX_CANDIDATES, cells) if type(index).__name__.startswith("Gpu") else cells


def name_of(index: Any) -> str:
    """The search and its device, for logs and reports."""
    if isinstance(index, ExactIndex):
        return f"exact in float16 on {index.device}"
    return f"{type(index).__name__} of FAISS"
