"""ShardWriter: writes features to files (shards) while they are encoded, so that a killed run can
resume.

A shard consists of NNNNN.npy and the captions NNNNN.jsonl. progress.json has the number of complete
shards, and the number of the caller's items in them. A resumed run overwrites the files of later
shards.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cache_index.captions import Caption, as_line
from cache_index.enhance import Array
from cache_index.errors import CacheError
from cache_index.folder import write_whole

PROGRESS = "progress.json"


class ShardWriter:
    def __init__(self, folder: Path, shards: int, consumed: int, rows_per_shard: int) -> None:
        self.consumed = (
            consumed  # number of the caller's items that are done, which a resumed run skips
        )
        self._folder = folder
        self._shards = shards
        self._rows_per_shard = rows_per_shard
        self._rows: list[Array] = []
        self._captions: list[Caption] = []

    @classmethod
    def open(cls, folder: Path, *, rows_per_shard: int = 4096) -> "ShardWriter":
        """Start in an empty folder, or resume an interrupted run."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / PROGRESS
        if not path.exists():
            if any(folder.glob("*.npy")):
                raise CacheError(f"{folder}: holds features but no {PROGRESS}; use another folder")
            writer = cls(folder, 0, 0, rows_per_shard)
            writer.flush()  # a run that is killed after its first shard must find this file
            return writer
        try:
            progress = json.loads(path.read_bytes())
            return cls(folder, int(progress["shards"]), int(progress["consumed"]), rows_per_shard)
        except (ValueError, KeyError, TypeError):
            raise CacheError(f"{path}: unreadable; remove {folder} and start again") from None

    def append(self, vector: Array, caption: Caption) -> None:
        """Append the next item's feature (D,)."""
        self.append_all([(vector, caption)])

    def append_all(self, rows: Sequence[tuple[Array, Caption]]) -> None:
        """Append the next item's features (D,), for example one for each window of a sound."""
        for vector, caption in rows:
            self._rows.append(vector)
            self._captions.append(caption)
        self.skip()

    def skip(self) -> None:
        """Count the next item as done, but without a feature, for example because it cannot be
        decoded.
        """
        self.consumed += 1
        if len(self._rows) >= self._rows_per_shard:
            self.flush()

    def flush(self) -> None:
        """Write the appended items as a shard, and then the new number of shards."""
        if self._rows:
            rows = np.asarray(np.stack(self._rows), dtype=np.float32)
            lines = b"".join(as_line(caption) for caption in self._captions)
            name = f"{self._shards:05d}"
            write_whole(self._folder / f"{name}.npy", lambda p: save(p, rows))
            write_whole(self._folder / f"{name}.jsonl", lambda p: p.write_bytes(lines))
            self._shards += 1
        progress = {"shards": self._shards, "consumed": self.consumed}
        write_whole(self._folder / PROGRESS, lambda p: p.write_text(json.dumps(progress)))
        self._rows.clear()
        self._captions.clear()


def save(path: Path, rows: Array) -> None:
    with path.open("wb") as file:  # np.save would append .npy to the name
        np.save(file, rows)
