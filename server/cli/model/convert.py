"""`bindserve convert`: its options, what it reports, and what it says when it fails.

Imports nothing heavy: `--help` is fast. `conversion.py` does the work.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cache_index.errors import CacheError
from model_ext.config import Provenance
from model_ext.convert.provenance import Licences
from model_ext.weights.errors import ConvertError
from model_ext.weights.folder import partial_folder
from server.cli.sizes import parse_size
from server.logs import fail

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
    from server.cli.model.conversion import Options, Sources, dtype_of, run

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
    options = Options(dtype=dtype_of(dtype), max_shard_size=max_shard_size, golden=golden)
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


def report(provenance: Provenance, out: Path) -> None:
    variant = " (legacy bind network)" if provenance.legacy else ""
    typer.echo(f"{out}: {provenance.stage} weights{variant}")
    for source in provenance.sources:
        typer.echo(f"  {source.role:<10} {source.file}  {source.sha256[:12]}  {source.licence}")
    typer.echo("The licences above hold for the result; check that your use is allowed.")
