"""Record which files of an unfinished folder are finished, so that a conversion can resume.

The record is the folder's manifest. It is valid only for the same inputs: a conversion of other
inputs empties the folder.
"""

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

from model_ext.manifest import FileEntry, Manifest, ManifestError, Progress, nothing

Chunks = Iterable[bytes | memoryview]


class Ledger:
    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self._manifest = manifest

    @classmethod
    def open(cls, folder: Path, inputs: str, progress: Progress) -> Self:
        """Keep the undamaged files of an earlier run, or empty the folder if the earlier run had
        other `inputs`.

        Calls `progress` with the number of bytes that were read to check the files.
        """
        manifest = _read(folder)
        if manifest is None or manifest.inputs != inputs:
            _empty(folder)
            return cls(folder, Manifest(inputs))
        damaged = dict(manifest.damaged(folder, progress))
        files = {name: entry for name, entry in manifest.files.items() if name not in damaged}
        return cls(folder, replace(manifest, files=files))

    def write(self, name: str, chunks: Chunks, progress: Progress = nothing) -> None:
        """Write `chunks` to the file `name`. If an earlier run finished it, `chunks` is not read.

        Calls `progress` with the number of bytes that were written, or with the size of the
        finished file.
        """
        if name in self._manifest.files:
            progress(self._manifest.files[name].bytes)
            return
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        digest = hashlib.sha256()
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                progress(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        entry = FileEntry(bytes=path.stat().st_size, sha256=digest.hexdigest())
        self._manifest = replace(self._manifest, files={**self._manifest.files, name: entry})
        self._manifest.write(self.folder)

    def rewrite(self, name: str, content: bytes) -> None:
        """Write a small file, even if an earlier run finished it."""
        others = {other: entry for other, entry in self._manifest.files.items() if other != name}
        self._manifest = replace(self._manifest, files=others)
        self.write(name, [content])


def _read(folder: Path) -> Manifest | None:
    try:
        return Manifest.read(folder)
    except (FileNotFoundError, ManifestError):
        return None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
