"""The only lines that need a GPU: FAISS's own copy of an index to the first one.

A GPU index answers like its CPU original, but gives no vectors back by id (we keep them ourselves)
and is not safe to call from two threads (one owner thread per index). Not run by our tests, which
have no GPU: docs/decisions/0003 says what each line was checked against.
"""

import logging
from typing import Any

import faiss

logger = logging.getLogger(__name__)

MOST = 2048  # candidates of a query, and cells visited for it: more is an exception on a GPU
MOST_SCALAR = 512  # of GpuIndexIVFScalarQuantizer at our widths; more aborts the process

ON_GPU = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)


def place(index: Any) -> Any:
    """The index on the first GPU if there is one that takes it, otherwise the same index."""
    if faiss.get_num_gpus() == 0:
        return index
    if not isinstance(index, ON_GPU):
        logger.warning("%s is not a GPU index: searching on the CPU", type(index).__name__)
        return index
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True  # Flat: half the memory; PQ: tables that fit, of 56 parts and more
    options.use_cuvs = False  # a build with cuVS would, and then clones no scalar quantizer
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = 1  # cloning refuses more than MOST; what is served is set afterwards
    resources = faiss.StandardGpuResources()
    try:
        placed: Any = faiss.index_cpu_to_gpu(resources, 0, index, options)
    except RuntimeError as error:  # out of device memory, or a kind that this build lacks
        logger.warning("the index does not fit on the GPU, searching on the CPU: %s", error)
        return index
    placed.referenced_objects = [resources]  # must outlive the index; FAISS does not hold it
    return placed


def most_candidates(index: Any) -> int:
    """How many neighbors one search may ask for."""
    return MOST_SCALAR if type(index).__name__ == "GpuIndexIVFScalarQuantizer" else MOST


def most_cells(index: Any) -> int:
    on_gpu = type(index).__name__.startswith("Gpu")
    return min(MOST, index.nlist) if on_gpu else int(index.nlist)
