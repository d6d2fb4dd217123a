"""Record the hash and licence of each source file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_ext.config import Source
from model_ext.manifest import Progress, sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Licences:
    """The licences of the released files.

    Options of the command `convert` override these licences.
    """

    llama: str = "LLaMA licence (non-commercial research)"
    adapter: str = "GPL-3.0 (as the release's code)"
    imagebind: str = "CC-BY-NC-SA 4.0"


def describe(role: str, files: Sequence[Path], licence: str, progress: Progress) -> list[Source]:
    return [
        Source(role=role, file=path.name, sha256=sha256(path, progress), licence=licence)
        for path in files
    ]
