"""`bindserve bench ...`: the measurements that the README quotes."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli import bench_cache
from server.logs import fail

if TYPE_CHECKING:
    from model_ext.bench.random_model import Shape

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Pairs = Annotated[int, typer.Option(min=2, help="Interleaved pairs; 15 or more for a figure.")]


class ShapeName(StrEnum):
    smollm2_135m = "smollm2-135m"
    tiny = "tiny"


class LoadName(StrEnum):
    decode_1 = "decode-1"
    decode_32 = "decode-32"
    first_token = "first-token"


class Modality(StrEnum):
    vision = "vision"
    audio = "audio"
    point = "point"


def shape_of(name: ShapeName) -> "Shape":
    from model_ext.bench import random_model

    return {
        ShapeName.smollm2_135m: random_model.SMOLLM2_135M,
        ShapeName.tiny: random_model.TINY,
    }[name]


@app.callback()
def bench() -> None:
    """Side-by-side measurements: ratios from interleaved pairs in one run."""


@app.command()
def engine(
    out: Annotated[Path, typer.Option(help="Folder for the random weights; kept for next time.")],
    pairs: Pairs = 15,
    shape: Annotated[
        ShapeName, typer.Option(help="Sizes of the language model.")
    ] = ShapeName.smollm2_135m,
    load: Annotated[
        list[LoadName], typer.Option(help="What to measure; may be given several times.")
    ] = list(LoadName),  # noqa: B006 (typer copies it)
    eager: Annotated[bool, typer.Option("--eager", help="Do not compile, on both sides.")] = False,
) -> None:
    """Conditioned requests over text-only requests to plain vLLM, of the same language model.

    1 is free. One side is stopped while the other runs.
    """
    from model_ext.bench.engine import LOADS, run

    try:
        for outcome in run(out, pairs, shape_of(shape), [LOADS[name] for name in load], eager):
            typer.echo(str(outcome))
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def throughput(
    out: Annotated[Path, typer.Option(help="Folder for the random weights; kept for next time.")],
    pairs: Pairs = 15,
    shape: Annotated[
        ShapeName, typer.Option(help="Sizes of the language model.")
    ] = ShapeName.smollm2_135m,
) -> None:
    """32 clients at once through the engine, over the released way of answering them in turn."""
    from model_ext.bench.throughput import run

    try:
        typer.echo(str(run(out, pairs, shape_of(shape))))
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def encoders(
    pairs: Pairs = 15,
    clients: Annotated[int, typer.Option(min=2, help="Files in a batch.")] = 16,
    blocks: Annotated[
        int, typer.Option(min=1, help="Depth of each encoder; ImageBind-huge has 12 to 32.")
    ] = 2,
    modality: Annotated[
        list[Modality], typer.Option(help="What to measure; may be given several times.")
    ] = list(Modality),  # noqa: B006 (typer copies it)
) -> None:
    """The encoders' batch over one file after the other, and what matrix products alone gain."""
    import torch

    from model_ext.bench.encoders import compare, config, load

    typer.echo(f"{torch.get_num_threads()} threads, float32, random weights")
    model = load(config(blocks))
    for each in modality:
        try:
            typer.echo(str(compare(model, each.value, clients, pairs)))
        except RuntimeError as error:
            fail(str(error), code=1)


@app.command()
def server(
    model: Annotated[
        Path | None,
        typer.Option(help="A model's folder: its tokenizer and template. Default: the demo's."),
    ] = None,
    pairs: Pairs = 9,
    requests: Annotated[int, typer.Option(min=32, help="Of one measurement.")] = 400,
) -> None:
    """The server alone, with a mock engine: over vLLM's own and over bare FastAPI; uploads and
    overload."""
    from server.bench.run import run
    from server.cli.demo import default_folder

    try:
        run(model or default_folder(), pairs, requests, typer.echo)
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def full_size(
    out: Annotated[Path, typer.Option(help="Folder for the files: 21 GB.")],
) -> None:
    """Files of the released names, shapes and types with random weights, to try `convert` on."""
    from model_ext.bench.full_size import Sizes, write

    try:
        write(out, Sizes.released())
    except OSError as error:
        fail(str(error), code=1)
    typer.echo(
        f"bindserve convert --llama {out / 'llama' / '7B'} --adapter {out / '7B.pth'} "
        f"--imagebind {out / 'imagebind_w3D.pth'} --out ..."
    )


app.command()(bench_cache.cache)
app.command()(bench_cache.cache_scaling)
