"""Convert released files into a model's folder.

All files are opened and checked before the first byte is written. The ledger records each finished
file, so that the same command resumes a conversion that was killed. This module does not build the
cache index; the command `convert` adds the index to the folder.
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
# With at most SMALL bytes of weights, the reference computes golden.json in seconds.
SMALL = 2 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    dtype: torch.dtype = torch.bfloat16
    max_shard_size: int = MAX_SHARD_SIZE  # Maximum size of a weights file in bytes.
    # Whether to record golden.json (None: only if the weights have at most SMALL bytes).
    golden: bool | None = None
    progress: bool = True  # whether to show progress bars


def convert(sources: Sources, out: Path, options: Options | None = None) -> BindServeConfig:
    """Write the folder `out`, which appears only when it is complete. Raises ConvertError."""
    with new_folder(out) as folder:
        return write_folder(sources, folder, options or Options())


def write_folder(
    sources: Sources, folder: Path, options: Options, *, cache: str | None = None
) -> BindServeConfig:
    """Write into an existing folder.

    `cache` names the sub-folder in which the caller puts the index.
    """
    return write_opened(Opened.of(sources), folder, options, cache=cache)


def write_opened(
    opened: Opened, folder: Path, options: Options, *, cache: str | None = None
) -> BindServeConfig:
    """Write a folder from opened sources, which may also come from a training run's export."""
    bar = partial(progress_bar, shown=options.progress)
    with TemporaryDirectory() as scratch:
        bos, eos = write_tokenizer(opened.tokenizer, Path(scratch), opened.llama.sizes.vocab_size)
        with bar("sha256", opened.file_bytes) as done:
            provenance = opened.provenance(done)
        with bar("check finished files", None) as done:
            ledger = Ledger.open(folder, _inputs(provenance, options, cache), done)
        for path in Path(scratch).iterdir():
            ledger.rewrite(path.name, path.read_bytes())
    shards = split(merge(opened.llama, opened.adapter, options.dtype), options.max_shard_size)
    size = sum(map(size_of, shards.values())) + opened.encoders.size
    with bar("weights", size) as done:
        write_model(ledger, shards, done)
        opened.encoders.write(ledger, ENCODERS, done)
    sections = BindServeConfig(
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
        **sections.to_hf(),
    }
    ledger.rewrite(CONFIG, json.dumps(config, indent=2).encode() + b"\n")
    if options.golden if options.golden is not None else size < SMALL:
        ledger.write(GOLDEN, _golden(folder, options))
    return sections


def language_model_config(
    sizes: LlamaSizes, biases: bool, dtype: torch.dtype, bos: int, eos: int
) -> dict[str, Any]:
    """Return the fields of config.json, which `transformers` loads as a LLaMA, and vLLM as
    bindserve's model.
    """
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
    with progress_bar("golden answers", STEPS, unit="step", shown=options.progress) as done:
        try:
            yield record(folder, done).to_json().encode()
        except GoldenError as error:
            raise ConvertError(str(error)) from None


def _inputs(provenance: Provenance, options: Options, cache: str | None) -> str:
    """Return a sha256 of all inputs that determine the names of the files and the content of the
    large files.
    """
    sources = [f"{source.role} {source.sha256}" for source in provenance.sources]
    choices = [version("bindserve"), options.dtype, options.max_shard_size, cache]
    return sha256_of([*sources, *map(str, choices)])


@contextmanager
def progress_bar(
    title: str, size: int | None, *, shown: bool, unit: str = "B"
) -> Iterator[Progress]:
    with tqdm(total=size, desc=title, unit=unit, unit_scale=True, disable=not shown) as bar:
        yield bar.update
