"""`bindserve convert`: its options, report and error messages.

`conversion.py` converts the files. This module does not import torch, so that `--help` is fast.
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


class WeightDtype(StrEnum):
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


# Options that apply only to the language model.
LANGUAGE_MODEL_OPTIONS = (
    *("tokenizer", "delta", "dtype", "max_shard_size"),
    *("golden", "llama_licence", "adapter_licence"),
)


def convert_command(
    ctx: typer.Context,
    imagebind: Annotated[
        Path,
        typer.Option(
            help="ImageBind's weights: imagebind_w3D.pth, imagebind_huge.pth, a .safetensors file "
            "with the same names, or a folder with one of them."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Model folder to write. It must be empty or not exist.")
    ],
    llama: Annotated[
        Path | None,
        typer.Option(
            help="LLaMA folder: Meta's (params.json, consolidated.*.pth) or Hugging Face's. "
            "Without --llama and --adapter, the model folder contains only encoders."
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="ImageBind-LLM adapter, e.g. 7B.pth.")
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            help="Encoders to keep, separated by commas, e.g. vision,text,audio. Only without "
            "--llama and --adapter. Default: all."
        ),
    ] = None,
    imagebind_config: Annotated[
        Path | None,
        typer.Option(
            help="JSON file with the encoders' sizes. Default: imagebind_config.json beside "
            "--imagebind, else the released sizes."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Path of tokenizer.model. Default: in the LLaMA folder or its parent."),
    ] = None,
    knn_index: Annotated[
        Path | None,
        typer.Option(
            help="FAISS index of image features, which becomes the model's retrieval cache."
        ),
    ] = None,
    delta: Annotated[
        Path | None,
        typer.Option(
            help="Folder with weights in Meta's layout, which are added to LLaMA's weights."
        ),
    ] = None,
    dtype: Annotated[
        WeightDtype, typer.Option(help="Precision of the LLM's weights.")
    ] = WeightDtype.bfloat16,
    max_shard_size: Annotated[
        int,
        typer.Option(
            parser=parse_size, metavar="SIZE", help="Maximum size of one file, e.g. 500MB."
        ),
    ] = "5GB",  # type: ignore[assignment]  # typer also parses the default, a string
    golden: Annotated[
        bool | None,
        typer.Option(
            "--golden/--no-golden",
            help="Record answers for `bindserve doctor`. Takes minutes for a large model. "
            "Default: only for small models.",
        ),
    ] = None,
    llama_licence: Annotated[
        str, typer.Option(help="Licence of the LLaMA weights.")
    ] = DEFAULTS.llama,
    adapter_licence: Annotated[
        str, typer.Option(help="Licence of the adapter.")
    ] = DEFAULTS.adapter,
    imagebind_licence: Annotated[
        str, typer.Option(help="Licence of the ImageBind weights.")
    ] = DEFAULTS.imagebind,
) -> None:
    """Convert released checkpoints to a model folder for `bindserve serve`.

    Run the same command again to resume an interrupted conversion.
    """
    if llama is None and adapter is None:
        reject_given(ctx, LANGUAGE_MODEL_OPTIONS)
        convert_encoders(
            imagebind,
            imagebind_config,
            encoder_names(modalities),
            out,
            knn_index,
            imagebind_licence,
        )
        return
    if llama is None or adapter is None:
        fail("--llama and --adapter belong together; for encoders alone, give neither", code=2)
    if modalities is not None:
        fail("--modalities is only for encoders alone, without --llama and --adapter", code=2)
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
        fail(f"interrupted{resume_hint(out)}", code=1)
    except (ConvertError, CacheError, OSError) as error:
        fail(f"{error}{resume_hint(out)}", code=1)
    report(config.provenance, out)


def reject_given(ctx: typer.Context, names: tuple[str, ...]) -> None:
    """Exit with status 2 if one of these options was given."""
    for name in names:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            option = "--" + name.replace("_", "-")
            fail(f"{option} is only for a language model, with --llama and --adapter", code=2)


def convert_encoders(
    imagebind: Path,
    sizes: Path | None,
    modalities: tuple[str, ...],
    out: Path,
    knn_index: Path | None,
    licence: str,
) -> None:
    from server.cli.model.conversion import EncoderSource, run_encoders

    source = EncoderSource(
        imagebind=imagebind,
        imagebind_config=sizes,
        modalities=modalities,
        licences=Licences(imagebind=licence),
    )
    try:
        config = run_encoders(source, out, knn_index)
    except KeyboardInterrupt:
        fail(f"interrupted{resume_hint(out)}", code=1)
    except (ConvertError, CacheError, OSError) as error:
        fail(f"{error}{resume_hint(out)}", code=1)
    report(config.provenance, out)


def encoder_names(text: str | None) -> tuple[str, ...]:
    """Parse `--modalities`. `image` and `video` mean the encoder `vision`. Exits with status 2 on
    an unknown name.
    """
    from model_ext.imagebind.config import ENCODER_OF, MODALITIES

    if text is None:
        return ()
    names = [ENCODER_OF.get(name.strip(), name.strip()) for name in text.split(",")]
    for name in names:
        if name not in MODALITIES:
            fail(f"--modalities {name!r}: expected some of {', '.join(MODALITIES)}", code=2)
    return tuple(dict.fromkeys(names))


def resume_hint(out: Path) -> str:
    """Return a text that says how to resume, or "" if the conversion has written no files."""
    unfinished = partial_folder(out)
    if not unfinished.exists():
        return ""
    return f"\n(finished files are in {unfinished}; run the same command again to resume)"


def report(provenance: Provenance, out: Path) -> None:
    variant = " (legacy bind network)" if provenance.legacy else ""
    kind = "encoders alone" if provenance.stage == "encoders" else f"{provenance.stage} weights"
    typer.echo(f"{out}: {kind}{variant}")
    for source in provenance.sources:
        typer.echo(f"  {source.role:<10} {source.file}  {source.sha256[:12]}  {source.licence}")
    typer.echo("These licences apply to the model folder. Check that they permit your use.")
