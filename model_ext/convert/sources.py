"""Open the source files of a conversion, and check that they belong together."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from model_ext.config import Provenance
from model_ext.convert.adapter import Adapter, open_adapter
from model_ext.convert.encoders import Encoders, open_encoders
from model_ext.convert.llama import Llama
from model_ext.convert.llama_hf import open_hf
from model_ext.convert.llama_meta import open_meta
from model_ext.convert.merge import check_pairing
from model_ext.convert.provenance import Licences, describe
from model_ext.convert.tokenizer import find_tokenizer
from model_ext.manifest import Progress
from model_ext.weights.errors import ConvertError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    llama: Path  # folder of the base, in Meta's or Hugging Face's layout
    adapter: Path
    imagebind: Path
    imagebind_config: Path | None = None
    tokenizer: Path | None = None
    delta: Path | None = None  # folder of a patch to the base, in Meta's layout
    licences: Licences = field(default_factory=Licences)


@dataclass(frozen=True, slots=True)
class Opened:
    """Opened source files. Names, shapes and dtypes of the tensors have been read; values are read
    later.
    """

    llama: Llama
    adapter: Adapter
    encoders: Encoders
    tokenizer: Path
    licences: Licences

    @classmethod
    def of(cls, sources: Sources) -> Self:
        """Open the files.

        Raises ConvertError: when a file is missing, invalid or does not fit the others.
        """
        llama = _open_llama(sources)
        adapter = open_adapter(sources.adapter, llama.sizes)
        encoders = open_encoders(sources.imagebind, sources.imagebind_config)
        check_pairing(llama, adapter)
        if adapter.sizes["D"] != encoders.config.embed_dim:
            raise ConvertError(
                f"{adapter.path}: image_bind_proj.weight takes embeddings of {adapter.sizes['D']} "
                f"numbers, but those of {encoders.files[0]} have {encoders.config.embed_dim}"
            )
        tokenizer = sources.tokenizer or find_tokenizer(sources.llama)
        return cls(llama, adapter, encoders, tokenizer, sources.licences)

    @property
    def files(self) -> tuple[tuple[str, tuple[Path, ...], str], ...]:
        """Return the role, the paths and the licence of each opened source."""
        return (
            ("llama", self.llama.files, self.licences.llama),
            ("adapter", (self.adapter.path,), self.licences.adapter),
            ("imagebind", self.encoders.files, self.licences.imagebind),
            ("tokenizer", (self.tokenizer,), self.licences.llama),
        )

    @property
    def file_bytes(self) -> int:
        return sum(path.stat().st_size for _, paths, _ in self.files for path in paths)

    def provenance(self, progress: Progress) -> Provenance:
        """Read every file once to compute its sha256."""
        described = [describe(role, paths, lic, progress) for role, paths, lic in self.files]
        return Provenance(
            stage=self.adapter.stage,
            legacy=self.adapter.legacy,
            base_fingerprint=self.llama.fingerprint(),
            sources=tuple(source for group in described for source in group),
        )


def _open_llama(sources: Sources) -> Llama:
    if (sources.llama / "config.json").is_file():
        if sources.delta:
            raise ConvertError(
                f"{sources.delta}: a delta needs a base in Meta's layout, not in Hugging Face's"
            )
        return open_hf(sources.llama)
    return open_meta(sources.llama, sources.delta)
