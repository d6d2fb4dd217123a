"""The whole conversion: released files in, one model folder out.

Everything is opened and checked before the first byte is written. A cache index is none of its
business: the command line adds it to the same folder.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from model_ext.config import BindServeConfig, CacheConfig, EncoderSummary, Provenance
from model_ext.convert.adapter import Adapter, open_adapter
from model_ext.convert.encoders import Encoders, open_encoders
from model_ext.convert.errors import ConvertError
from model_ext.convert.folder import new_folder
from model_ext.convert.llama import Llama, LlamaSizes
from model_ext.convert.llama_hf import open_hf
from model_ext.convert.llama_meta import open_meta
from model_ext.convert.merge import bind_config, check_pairing, injection_config, merge
from model_ext.convert.provenance import Licences, describe
from model_ext.convert.tokenizer import find_tokenizer, write_tokenizer
from model_ext.convert.writer import write_model

ENCODERS = "encoders"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    llama: Path  # folder, in Meta's or Hugging Face's layout
    adapter: Path
    imagebind: Path
    imagebind_config: Path | None = None
    tokenizer: Path | None = None
    delta: Path | None = None  # folder of a patch to the base, in Meta's layout
    licences: Licences = field(default_factory=Licences)


def convert(
    sources: Sources, out: Path, dtype: torch.dtype = torch.bfloat16, *, progress: bool = True
) -> BindServeConfig:
    """`out` is there only if all went well."""
    with new_folder(out) as folder:
        return write_folder(sources, folder, dtype, progress=progress)


def write_folder(
    sources: Sources,
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    *,
    cache: str | None = None,
    progress: bool = True,
) -> BindServeConfig:
    """Into a folder that exists. `cache` names the sub-folder that the caller will fill."""
    llama = _open_llama(sources)
    adapter = open_adapter(sources.adapter, llama.sizes)
    encoders = open_encoders(sources.imagebind, sources.imagebind_config)
    _check_together(llama, adapter, encoders)
    tokenizer = sources.tokenizer or find_tokenizer(sources.llama)
    bos, eos = write_tokenizer(tokenizer, folder, llama.sizes.vocab_size)
    tensors = merge(llama, adapter, dtype)

    size = sum(lazy.nbytes for lazy in (*tensors, *encoders.tensors))
    with _bar("weights", size, progress) as done:
        write_model(folder, tensors, done)
        encoders.write(folder / ENCODERS, done)
    ours = BindServeConfig(
        imagebind=EncoderSummary(
            modalities=encoders.config.modalities, embedding_dim=encoders.config.embed_dim
        ),
        bind=bind_config(adapter),
        injection=injection_config(adapter),
        cache=CacheConfig(folder=cache),
        provenance=_provenance(sources, llama, adapter, encoders, tokenizer, progress),
    )
    config = {
        **language_model_config(llama.sizes, adapter.stage == "finetune", dtype, bos, eos),
        **ours.to_hf(),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return ours


def language_model_config(
    sizes: LlamaSizes, biases: bool, dtype: torch.dtype, bos: int, eos: int
) -> dict[str, Any]:
    """What `transformers` reads as a LLaMA, and vLLM as our architecture."""
    return {
        "architectures": ["ImageBindLLMForCausalLM"],
        "model_type": "llama",
        **asdict(sizes),
        "hidden_act": "silu",
        "attention_bias": biases,
        "mlp_bias": biases,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "dtype": str(dtype).removeprefix("torch."),
    }


@contextmanager
def _bar(what: str, size: int, shown: bool) -> Iterator[Callable[[int], object]]:
    with tqdm(total=size, desc=what, unit="B", unit_scale=True, disable=not shown) as bar:
        yield bar.update


def _open_llama(sources: Sources) -> Llama:
    if (sources.llama / "config.json").is_file():
        if sources.delta:
            raise ConvertError(f"{sources.delta}: a delta needs a base in Meta's layout")
        return open_hf(sources.llama)
    return open_meta(sources.llama, sources.delta)


def _check_together(llama: Llama, adapter: Adapter, encoders: Encoders) -> None:
    check_pairing(llama, adapter)
    if adapter.sizes["D"] != encoders.config.embed_dim:
        raise ConvertError(
            f"{adapter.path}: image_bind_proj.weight takes {adapter.sizes['D']} numbers, but the "
            f"encoders of {encoders.files[0]} give {encoders.config.embed_dim}"
        )


def _provenance(
    sources: Sources,
    llama: Llama,
    adapter: Adapter,
    encoders: Encoders,
    tokenizer: Path,
    progress: bool,
) -> Provenance:
    licences = sources.licences
    named = (
        ("llama", llama.files, licences.llama),
        ("adapter", (adapter.path,), licences.adapter),
        ("imagebind", encoders.files, licences.imagebind),
        ("tokenizer", (tokenizer,), licences.llama),
    )
    size = sum(path.stat().st_size for _, files, _ in named for path in files)
    with _bar("sha256", size, progress) as done:
        described = [describe(role, files, licence, done) for role, files, licence in named]
    return Provenance(
        stage=adapter.stage,
        legacy=adapter.legacy,
        base_fingerprint=llama.fingerprint(),
        sources=tuple(source for group in described for source in group),
    )
