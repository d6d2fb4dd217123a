"""manifest.json: the files of a model's folder, each with its size and sha256.

A conversion adds each file when it is finished, so that the same command can resume an interrupted
conversion. `bindserve doctor` checks the files. A retrieval cache inside the folder has a separate
manifest.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from model_ext.config import Sha256

MANIFEST = "manifest.json"
MAX_BYTES = 1 << 24  # maximum size of the manifest
BLOCK = 1 << 20

# A callback for progress bars. Its argument is the number of bytes (or steps) since the previous
# call.
Progress = Callable[[int], object]


def nothing(_: int) -> None:
    """A `Progress` callback that does nothing."""


class ManifestError(ValueError):
    """Raised when a manifest is not valid. The message names the file."""


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!r} is not inside the folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]


@checked(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class FileEntry:
    bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Manifest:
    inputs: str  # sha256 of all inputs that determine the files' content
    files: Mapping[str, FileEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the folder's manifest.

        Raises ManifestError: when it is invalid. FileNotFoundError: when there is none.
        """
        path = folder / MANIFEST
        if path.stat().st_size > MAX_BYTES:
            raise ManifestError(f"{path}: larger than {MAX_BYTES} bytes")
        try:
            document = _DOCUMENT.validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(map(str, first["loc"])) or "the file"
            raise ManifestError(f"{path}: {key}: {first['msg']}") from None
        return cls(document.inputs, document.files)

    def write(self, folder: Path) -> None:
        """Write the manifest, and replace the old one only when the new one is complete."""
        document: dict[str, Any] = {
            "inputs": self.inputs,
            "files": {
                name: {"bytes": entry.bytes, "sha256": entry.sha256}
                for name, entry in sorted(self.files.items())
            },
        }
        partial = folder / f"{MANIFEST}.partial"
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(folder / MANIFEST)

    def damaged(self, folder: Path, progress: Progress = nothing) -> Iterator[tuple[str, str]]:
        """Read all files. Yields (name, reason) for each file that differs from the manifest."""
        for name, entry in self.files.items():
            path = folder / name
            if not path.is_file():
                yield name, "is missing"
            elif path.stat().st_size != entry.bytes:
                yield name, f"has {path.stat().st_size} bytes instead of {entry.bytes}"
            elif sha256(path, progress) != entry.sha256:
                yield name, "has another sha256"


@checked(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))
class _Document:
    inputs: Sha256
    files: dict[FileName, FileEntry]


_DOCUMENT = TypeAdapter(_Document)


def sha256(path: Path, progress: Progress = nothing) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()


def sha256_of(parts: Iterable[str]) -> str:
    """Return the sha256 of a list of texts. Different lists never give the same hash input."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()
