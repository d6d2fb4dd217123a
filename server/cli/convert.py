"""`bindserve convert`: released files in, a model folder out; with an index, its cache too.

Joins the converter and the cache builder, which do not know each other.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from cache_index.build import import_index
from cache_index.errors import CacheError
from model_ext.config import BindServeConfig, Provenance
from model_ext.convert.errors import ConvertError
from model_ext.convert.folder import new_folder, partial_folder
from model_ext.convert.model import Options, write_folder
from model_ext.convert.provenance import Licences
from model_ext.convert.sources import Sources
from server.cli.serve import fail
from server.cli.sizes import parse_size

CACHE = "cache"
DEFAULTS = Licences()


class Dtype(StrEnum):
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


def convert_command(
    llama: Annotated[
        Path,
        typer.Option(help="LLaMA folder: params.json and consolidated.*.pth, or Hugging Face's."),
    ],
    adapter: Annotated[Path, typer.Option(help="ImageBind-LLM adapter (.pth), such as 7B.pth.")],
    imagebind: Annotated[Path, typer.Option(help="imagebind_w3D.pth or imagebind_huge.pth.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist, or be empty.")],
    imagebind_config: Annotated[
        Path | None,
        typer.Option(help="Sizes of the encoders. Default: imagebind_config.json beside them."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="tokenizer.model. Default: in the LLaMA folder or the one above."),
    ] = None,
    knn_index: Annotated[
        Path | None, typer.Option(help="FAISS index of image features, as the default cache.")
    ] = None,
    delta: Annotated[
        Path | None, typer.Option(help="Folder of a patch to add to the LLaMA, in Meta's layout.")
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Precision of the LLM's weights.")] = Dtype.bfloat16,
    max_shard_size: Annotated[
        int, typer.Option(parser=parse_size, metavar="SIZE", help="Of one file, such as 500MB.")
    ] = "5GB",  # type: ignore[assignment]  # typer parses the default too
    golden: Annotated[
        bool | None,
        typer.Option(
            "--golden/--no-golden",
            help="Record answers for `bindserve doctor`: minutes for a large model. "
            "Default: for small ones.",
        ),
    ] = None,
    llama_licence: Annotated[
        str, typer.Option(help="Licence of the LLaMA, if another.")
    ] = DEFAULTS.llama,
    adapter_licence: Annotated[
        str, typer.Option(help="Licence of the adapter, if another.")
    ] = DEFAULTS.adapter,
    imagebind_licence: Annotated[
        str, typer.Option(help="Licence of the encoders, if another.")
    ] = DEFAULTS.imagebind,
) -> None:
    """Convert released checkpoints to one folder for `bindserve serve`.

    A conversion that was stopped goes on when the same command is given again.
    """
    sources = Sources(
        llama=llama,
        adapter=adapter,
        imagebind=imagebind,
        imagebind_config=imagebind_config,
        tokenizer=tokenizer,
        delta=delta,
        licences=Licences(
            llama=llama_licence, adapter=adapter_licence, imagebind=imagebind_licence
        ),
    )
    options = Options(
        dtype=getattr(torch, dtype.value), max_shard_size=max_shard_size, golden=golden
    )
    try:
        config = run(sources, out, options, knn_index)
    except KeyboardInterrupt:
        fail(f"stopped{goes_on(out)}", code=1)
    except (ConvertError, CacheError, OSError) as error:
        fail(f"{error}{goes_on(out)}", code=1)
    report(config.provenance, out)


def goes_on(out: Path) -> str:
    """What to know about the unfinished folder, if there is one."""
    unfinished = partial_folder(out)
    if not unfinished.exists():
        return ""
    return f"\n(what is finished lies in {unfinished}: the same command goes on with it)"


def run(
    sources: Sources, out: Path, options: Options, knn_index: Path | None = None
) -> BindServeConfig:
    """`out` appears when model and cache are complete."""
    with new_folder(out) as folder:
        config = write_folder(sources, folder, options, cache=CACHE if knn_index else None)
        if knn_index:
            encoder = encoder_of(config.provenance)
            manifest = import_index(knn_index, folder / CACHE, encoder=encoder, overwrite=True)
            check_width(knn_index, manifest.dimension, config.imagebind.embedding_dim)
        return config


def check_width(index: Path, found: int, expected: int) -> None:
    if found != expected:
        raise CacheError(f"{index}: vectors of {found} numbers, but the encoders give {expected}")


def encoder_of(provenance: Provenance) -> dict[str, str]:
    """Which encoders the index is said to come from; a server refuses a cache of others."""
    weights = next(source for source in provenance.sources if source.role == "imagebind")
    return {"sha256": weights.sha256}


def report(provenance: Provenance, out: Path) -> None:
    variant = " (legacy bind network)" if provenance.legacy else ""
    typer.echo(f"{out}: {provenance.stage} weights{variant}")
    for source in provenance.sources:
        typer.echo(f"  {source.role:<10} {source.file}  {source.sha256[:12]}  {source.licence}")
    typer.echo("The licences above hold for the result; check that your use is allowed.")
