"""Read a FAISS index file from an untrusted source.

FAISS's reader trusts the sizes in the file and has had bugs that corrupt memory. Therefore, this
module accepts only the kinds of index in KINDS, limits FAISS's allocations by the size of the file,
and converts FAISS's exceptions to a CacheError that names the file.
"""

import threading
from pathlib import Path
from typing import Any

import faiss

from cache_index.errors import CacheError
from cache_index.manifest import REBUILD

# The first four bytes of an index file -> its kind. Files of other kinds are rejected.
KINDS = {
    b"IxFI": "Flat",
    b"IwFl": "IVF,Flat",
    b"IwSq": "IVF,SQ",
    b"IwPQ": "IVF,PQ",
    b"IwPf": "IVF,PQx4fs",
}
FOREIGN = "not a FAISS index of a supported kind (Flat, or IVF with Flat, SQ, PQ or PQx4fs)"

# minimum of FAISS's allocation limit, because FAISS also counts a table that is not in the file
TABLE_BYTES = 1 << 30

# A thread holds this lock while it changes FAISS's allocation limit, which applies to the whole
# process.
_limit = threading.Lock()


def read_index(path: Path, *, mapped: bool = False) -> Any:
    """Read an index whose kind is in KINDS and whose metric is the inner product.

    `mapped`: memory-map the file. Rows cannot be added to a mapped index.
    Raises CacheError: when the file is not such an index.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            kind = file.read(4)
    except OSError as error:
        raise CacheError(f"{path}: {error.strerror}; {REBUILD}") from None
    if kind not in KINDS:
        raise CacheError(f"{path}: {FOREIGN}; {REBUILD}")
    flags = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE  # skip the table, which only L2 distances need
    with _limit:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(size, TABLE_BYTES))
        try:
            index = faiss.read_index(str(path), flags | (faiss.IO_FLAG_MMAP_IFC if mapped else 0))
        except (RuntimeError, MemoryError) as error:
            reason = str(error).splitlines()[0][:200]
            raise CacheError(f"{path}: corrupt or truncated ({reason}); {REBUILD}") from None
        finally:
            faiss.set_deserialization_vector_byte_limit(before)
    if index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise CacheError(
            f"{path}: the index's metric is not inner product; build it with inner product"
        )
    return index
