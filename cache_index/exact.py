"""ExactIndex: an exact search in torch over rows that stay in the device's memory as float16.

This file is the only one of the package that imports torch, and it does so when an index is loaded.
It does not use FAISS, but has the methods of a FAISS index that `searcher.py` uses.

Shapes: B queries, N rows, D dimensions, C candidates, G rows of a group.
"""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cache_index.enhance import Array

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 32  # Rows per group (G). The selection first compares groups, and then rows.
SPARE = 64  # Number of additional candidates, because float32 scores may order rows differently.
# Number of additional results for callers that compute the scores again in float32.
SPARE_RESULTS = 6
MAX_SCORE_BYTES = 256 << 20  # Maximum memory for scores. It determines how many rows a chunk has.
BLOCK_ROWS = 1 << 14  # Number of rows that are copied to the device at a time.

# Minimum and maximum norm of the longest row, so that scores fit into float16.
MIN_NORM, MAX_NORM = 0.1, 1000.0


class ExactIndex:
    def __init__(self, rows: "Tensor", count: int) -> None:
        """`rows`: float16 (N rounded up to a multiple of G, D). `count`: N, the number of rows of
        the cache; further rows are padding.
        """
        self._rows = rows
        self.ntotal = count
        self.d: int = rows.shape[1]

    @classmethod
    def load(cls, rows: NDArray[np.floating], device: str) -> Self:
        """Copy rows (N, D) to the device, block by block.

        Raises ValueError: when float16 cannot represent the scores of these rows.
        Raises torch.OutOfMemoryError: when the device lacks memory.
        """
        import torch

        count, dimension = rows.shape
        resident = torch.zeros(padded(count), dimension, dtype=torch.float16, device=device)
        longest = 0.0
        for start in range(0, count, BLOCK_ROWS):
            # np.array copies the rows from the memory-mapped file
            block = torch.from_numpy(np.array(rows[start : start + BLOCK_ROWS]))
            half = resident[start : start + len(block)].copy_(block)
            longest = max(longest, float(half.float().norm(dim=1).max()))
        if not MIN_NORM <= longest <= MAX_NORM:
            raise ValueError(
                f"the longest row has the norm {longest:g}; a search in float16 needs "
                f"{MIN_NORM:g} to {MAX_NORM:g}"
            )
        return cls(resident, count)

    @property
    def device(self) -> str:
        return self._rows.device.type

    def search(self, queries: Array, k: int) -> tuple[Array, NDArray[np.int64]]:
        """Find the best k rows of each query (B, D). Returns similarities (B, k) and ids (B, k).

        The best row is first. The similarities use the rows' float16 values. If there are fewer
        than k rows, the missing ids are -1.
        """
        import torch

        with torch.inference_mode():
            exact = torch.tensor(queries, device=self._rows.device)
            # Scale the queries to length 1, so that no score overflows. The length does not change
            # the order of rows.
            half = torch.nn.functional.normalize(exact, dim=1).half()
            ids = self._candidates(half, min(k + SPARE, self.ntotal))
            # similarity (B, C): sums of products in float32, because a GPU may compute a matrix
            # product in tf32, which is less precise
            similarity = (self._rows[ids].float() * exact[:, None]).sum(2)
            similarity, order = similarity.topk(min(k, ids.shape[1]))
            # float64 represents all ids, so that one copy brings both results to the host
            results = torch.stack((similarity.double(), ids.gather(1, order).double()))
            similarities, numbers = results.cpu().numpy()
        return pad(similarities.astype(np.float32), numbers.astype(np.int64), k)

    def _candidates(self, queries: "Tensor", number: int) -> "Tensor":
        """Return the ids (B, C) of the best `number` rows by float16 scores, in any order."""
        import torch

        step = max(1, MAX_SCORE_BYTES // (2 * GROUP * len(queries))) * GROUP
        chunks = [
            best_of_chunk(queries, self._rows[start : start + step], start, self.ntotal, number)
            for start in range(0, len(self._rows), step)
        ]
        if len(chunks) == 1:
            return chunks[0][1]
        scores, ids = (torch.cat(parts, 1) for parts in zip(*chunks, strict=True))
        return ids.gather(1, scores.topk(number, sorted=False).indices)


def best_of_chunk(
    queries: "Tensor", rows: "Tensor", start: int, count: int, number: int
) -> tuple["Tensor", "Tensor"]:
    """Return scores and ids (B, C) of the best rows of a chunk, whose first row has the id `start`.

    Selects in two steps, because top-k over all scores takes as long as the matrix product: first
    the C groups with the largest maximum score, then the best C rows of these groups. A row outside
    of these groups cannot be better, because each of the C groups contains a row with at least the
    same score.
    """
    # scores (B, rows of the chunk); the second line excludes the padding of the last group
    scores = queries @ rows.T
    if count < start + len(rows):
        scores[:, max(0, count - start) :] = float("-inf")
    # Group j has the rows j, j + (number of groups), and so on. The maxima of groups of neighboring
    # rows would take a GPU seven times as long.
    groups = scores.view(len(scores), GROUP, -1)
    leading = groups.amax(1).topk(min(number, groups.shape[2]), sorted=False).indices
    members = groups.gather(2, leading[:, None].expand(-1, GROUP, -1)).flatten(1)
    best, place = members.topk(min(number, members.shape[1], count - start), sorted=False)
    selected = leading.shape[1]
    ids = place // selected * groups.shape[2] + leading.gather(1, place % selected)
    return best, ids + start


def pad(similarity: Array, ids: NDArray[np.int64], number: int) -> tuple[Array, NDArray[np.int64]]:
    """Append the id -1 and the similarity 0 until each row has `number` entries, as FAISS does."""
    missing = ((0, 0), (0, max(0, number - ids.shape[1])))
    return np.pad(similarity, missing), np.pad(ids, missing, constant_values=-1)


def padded(count: int) -> int:
    return -(-count // GROUP) * GROUP


def resident_bytes(count: int, dimension: int) -> int:
    """Return the device memory that an ExactIndex needs for the rows and the scores of one
    batch.
    """
    return 2 * padded(count) * dimension + MAX_SCORE_BYTES


def free_gpu_bytes() -> int:
    """Return the number of free bytes of the first GPU's memory, or 0 if there is no GPU."""
    import torch

    free: Any = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    return int(free)
