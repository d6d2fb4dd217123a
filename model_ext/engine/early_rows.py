"""The rows of waiting requests: computed early, and kept until the requests arrive.

A row is found by its embedding, and never by the id of a request, so that a request can only get
the row of its own embedding. This file does not use vLLM.
"""

from collections.abc import Iterator, Sequence

from model_ext.engine.arrival import MAX_BATCH

# A batch has at least one new request, so that at most this many waiting requests fit into it.
MAX_EARLY_ROWS = MAX_BATCH - 1


class EarlyRows:
    def __init__(self, rows: Sequence[int]) -> None:
        """`rows`: indices of rows that no running request uses."""
        self._unused = list(rows)
        self._row_of: dict[bytes, int] = {}  # packed embedding -> its row

    def exchange(self, packed: bytes, row: int) -> int:
        """Return the row of the embedding, and keep `row` in exchange.

        Returns `row` itself if the embedding's row was not computed early. No running request may
        use `row`.
        """
        early = self._row_of.pop(packed, None)
        if early is None:
            return row
        self._unused.append(row)
        return early

    def replace(self, upcoming: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
        """Keep only the rows of these packed embeddings (at most MAX_EARLY_ROWS).

        Yields those whose rows must be computed, with the index of the row.
        """
        for packed in self._row_of.keys() - set(upcoming):
            self._unused.append(self._row_of.pop(packed))
        for packed in upcoming:
            if packed not in self._row_of:
                self._row_of[packed] = row = self._unused.pop()
                yield packed, row
