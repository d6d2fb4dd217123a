"""The whole conversion: released files in, one model folder out.

Everything is opened and checked before the first byte is written; what is written goes through the
ledger, so that the same command goes on after a kill. A cache index is none of its business: the
command line adds it to the same folder.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tqdm import tqdm

from model_ext.checks.golden import GOLDEN, STEPS, GoldenError, record
from model_ext.config import BindServeConfig, CacheConfig, EncoderSummary, Provenance
from model_ext.convert.merge import bind_config, injection_config, merge
from model_ext.convert.sources import Opened, Sources
from model_ext.convert.tokenizer import write_tokenizer
from model_ext.manifest import Progress, sha256_of
from model_ext.weights.errors import ConvertError
from model_ext.weights.folder import new_folder
from model_ext.weights.ledger import Ledger
from model_ext.weights.llama_sizes import LlamaSizes
from model_ext.weights.writer import MAX_SHARD_SIZE, size_of, split, write_model

ENCODERS = "encoders"
CONFIG = "config.json"
SMALL = 2 * 10**9  # bytes of weights that the reference passes through in seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    dtype: torch.dtype = torch.bfloat16
    max_shard_size: int = MAX_SHARD_SIZE  # bytes
    golden: bool | None = None  # record answers for a doctor; None: if that takes seconds
    progress: bool = True  # show bars


def convert(sources: Sources, out: Path, options: Options | None = None) -> BindServeConfig:
    """`out` is there only if all went well."""
    with new_folder(out) as folder:
        return write_folder(sources, folder, options or Options())


def write_folder(
    sources: Sources, folder: Path, options: Options, *, cache: str | None = None
) -> BindServeConfig:
    """Into a folder that exists. `cache` names the sub-folder that the caller will fill."""
    return write_opened(Opened.of(sources), folder, options, cache=cache)


def write_opened(
    opened: Opened, folder: Path, options: Options, *, cache: str | None = None
) -> BindServeConfig:
    """The same from parts that are open, wherever they come from (a training run's export)."""
    bar = partial(_bar, shown=options.progress)
    with TemporaryDirectory() as scratch:
        bos, eos = write_tokenizer(opened.tokenizer, Path(scratch), opened.llama.sizes.vocab_size)
        with bar("sha256", opened.file_bytes) as done:
            provenance = opened.provenance(done)
        with bar("check what is there", None) as done:
            ledger = Ledger.open(folder, _inputs(provenance, options, cache), done)
        for path in Path(scratch).iterdir():
            ledger.rewrite(path.name, path.read_bytes())
    shards = split(merge(opened.llama, opened.adapter, options.dtype), options.max_shard_size)
    size = sum(map(size_of, shards.values())) + opened.encoders.size
    with bar("weights", size) as done:
        write_model(ledger, shards, done)
        opened.encoders.write(ledger, ENCODERS, done)
    ours = BindServeConfig(
        imagebind=EncoderSummary(
            modalities=opened.encoders.config.modalities,
            embedding_dim=opened.encoders.config.embed_dim,
        ),
        bind=bind_config(opened.adapter),
        injection=injection_config(opened.adapter),
        cache=CacheConfig(folder=cache),
        provenance=provenance,
    )
    biases = opened.adapter.stage == "finetune"
    config = {
        **language_model_config(opened.llama.sizes, biases, options.dtype, bos, eos),
        **ours.to_hf(),
    }
    ledger.rewrite(CONFIG, json.dumps(config, indent=2).encode() + b"\n")
    if options.golden if options.golden is not None else size < SMALL:
        ledger.write(GOLDEN, _golden(folder, options))
    return ours


def language_model_config(
    sizes: LlamaSizes, biases: bool, dtype: torch.dtype, bos: int, eos: int
) -> dict[str, Any]:
    """What `transformers` reads as a LLaMA, and vLLM as our architecture."""
    return {
        "architectures": ["ImageBindLLMForCausalLM"],
        "model_type": "llama",
        **{name: value for name, value in asdict(sizes).items() if value is not None},
        "hidden_act": "silu",
        "attention_bias": biases,
        "mlp_bias": biases,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "dtype": str(dtype).removeprefix("torch."),
    }


def _golden(folder: Path, options: Options) -> Iterator[bytes]:
    with _bar("golden answers", STEPS, unit="step", shown=options.progress) as done:
        try:
            yield record(folder, done).to_json().encode()
        except GoldenError as error:
            raise ConvertError(str(error)) from None


def _inputs(provenance: Provenance, options: Options, cache: str | None) -> str:
    """Everything that decides which files there are and what is in the large ones: a sha256."""
    sources = [f"{source.role} {source.sha256}" for source in provenance.sources]
    choices = [version("bindserve"), options.dtype, options.max_shard_size, cache]
    return sha256_of([*sources, *map(str, choices)])


@contextmanager
def _bar(what: str, size: int | None, *, shown: bool, unit: str = "B") -> Iterator[Progress]:
    with tqdm(total=size, desc=what, unit=unit, unit_scale=True, disable=not shown) as bar:
        yield bar.update
