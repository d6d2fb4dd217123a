"""`bindserve bench ...`: measurements of speed and memory. The documents quote their results."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli import bench_cache
from server.logs import fail

if TYPE_CHECKING:
    from model_ext.bench.engine import Device as BenchDevice
    from model_ext.bench.random_model import Shape as ModelShape

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Pairs = Annotated[
    int,
    typer.Option(
        min=2,
        help="Number of interleaved pairs of measurements. Results of fewer than 15 pairs are not "
        "reliable.",
    ),
]


class ShapeName(StrEnum):
    smollm2_135m = "smollm2-135m"
    llama_7b = "llama-7b"
    tiny = "tiny"


class DeviceName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class LoadName(StrEnum):
    first_token = "first-token"
    decode_1 = "decode-1"
    decode_32 = "decode-32"
    decode_256 = "decode-256"
    churn = "churn"


class BenchModality(StrEnum):
    vision = "vision"
    audio = "audio"
    point = "point"
    video = "video"


class BenchDtype(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Shape = Annotated[
    ShapeName | None,
    typer.Option(help="Sizes of the language model. Default: smollm2-135m; on a GPU llama-7b."),
]
Device = Annotated[
    DeviceName,
    typer.Option(help="`cuda`: vLLM on the GPU in bfloat16. `auto`: the GPU if there is one."),
]
CPU_LOADS = (LoadName.decode_1, LoadName.decode_32, LoadName.first_token)


def device_of(name: DeviceName) -> "BenchDevice":
    import torch

    if name is DeviceName.cuda and not torch.cuda.is_available():
        fail("--device cuda: torch finds no GPU", code=2)
    if name is DeviceName.cpu or not torch.cuda.is_available():
        return "cpu"
    return "cuda"


def shape_of(name: ShapeName | None, device: "BenchDevice") -> "ModelShape":
    from model_ext.bench import random_model

    if name is None:
        name = ShapeName.llama_7b if device == "cuda" else ShapeName.smollm2_135m
    return {
        ShapeName.smollm2_135m: random_model.SMOLLM2_135M,
        ShapeName.llama_7b: random_model.LLAMA_7B,
        ShapeName.tiny: random_model.TINY,
    }[name]


@app.callback()
def bench() -> None:
    """Compare implementations. Prints ratios from interleaved pairs of measurements."""


@app.command()
def engine(
    out: Annotated[
        Path, typer.Option(help="Folder for the random weights, which later runs use again.")
    ],
    pairs: Pairs = 15,
    shape: Shape = None,
    load: Annotated[
        list[LoadName] | None,
        typer.Option(
            help="Workload to measure. May be repeated. Default: all; on a CPU three short ones."
        ),
    ] = None,
    eager: Annotated[
        bool,
        typer.Option(
            "--eager", help="Run both engines without compiling the model (vLLM's eager mode)."
        ),
    ] = False,
    device: Device = DeviceName.cpu,
) -> None:
    """Compare conditioned requests to bindserve with text-only requests to plain vLLM.

    Both serve the same LLM, and one is stopped while the other is measured. A ratio of 1 means that
    conditioning takes no additional time.
    """
    from model_ext.bench.engine import WORKLOADS, run

    chosen = device_of(device)
    names = load or (list(LoadName) if chosen == "cuda" else list(CPU_LOADS))
    if missing := [name for name in names if name not in WORKLOADS[chosen]]:
        fail(f"--load {missing[0]} needs --device cuda", code=2)
    workloads = [WORKLOADS[chosen][name] for name in names]
    try:
        for result in run(out, pairs, shape_of(shape, chosen), workloads, eager, chosen):
            typer.echo(str(result))
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def throughput(
    out: Annotated[
        Path, typer.Option(help="Folder for the random weights, which later runs use again.")
    ],
    pairs: Pairs = 15,
    shape: Shape = None,
    device: Device = DeviceName.cpu,
) -> None:
    """Compare the throughput of the engine with that of the released code.

    The engine has 32 concurrent clients. The generation loop of the released code answers one
    request after the other.
    """
    from model_ext.bench.throughput import run

    chosen = device_of(device)
    try:
        typer.echo(str(run(out, pairs, shape_of(shape, chosen), chosen)))
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def encoders(
    pairs: Pairs = 15,
    clients: Annotated[
        int, typer.Option(min=2, help="Files in one batch; for videos, a fourth of this number.")
    ] = 16,
    blocks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Transformer blocks of each encoder. Default: 2; on a GPU 12 to 32, as released.",
        ),
    ] = None,
    modality: Annotated[
        list[BenchModality] | None,
        typer.Option(
            help="Modality to measure. May be repeated. Default: all; on a CPU all except video."
        ),
    ] = None,
    device: Device = DeviceName.cpu,
    dtype: Annotated[
        BenchDtype | None,
        typer.Option(help="Type of the weights. Default: float32; on a GPU bfloat16."),
    ] = None,
) -> None:
    """Compare two ways to encode files: in batches, and one file after the other.

    Also measures how much faster the matrix products are in batches, which is an upper limit of the
    ratio.
    """
    import torch

    from model_ext.bench.encoders import ENCODER_OF, compare, config, load

    chosen = device_of(device)
    if chosen == "cpu":
        dtype, blocks = dtype or BenchDtype.float32, blocks or 2
        modality = modality or [each for each in BenchModality if each is not BenchModality.video]
        typer.echo(f"{torch.get_num_threads()} threads, {dtype}, random weights")
    else:
        dtype, modality = dtype or BenchDtype.bfloat16, modality or list(BenchModality)
        typer.echo(f"{torch.cuda.get_device_name()}, {dtype}, random weights")
    for each in modality:
        try:
            model = load(config(blocks, ENCODER_OF[each]), chosen, getattr(torch, dtype))
            typer.echo(str(compare(model, each.value, clients, pairs)))
        except RuntimeError as error:
            fail(str(error), code=1)


@app.command()
def server(
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder with a tokenizer and a template. Default: the demonstration model."
        ),
    ] = None,
    pairs: Pairs = 9,
    requests: Annotated[int, typer.Option(min=32, help="Requests per measurement.")] = 400,
) -> None:
    """Compare bindserve's server with vLLM's server and with a bare FastAPI application.

    bindserve and vLLM use a mock engine, which computes nothing. Also measures uploads and
    overload.
    """
    from server.bench.run import run
    from server.cli.demo import default_folder

    try:
        run(model or default_folder(), pairs, requests, typer.echo)
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def start_up(
    out: Annotated[Path, typer.Option(help="Folder for configurations and logs.")],
    pairs: Annotated[int, typer.Option(min=2, help="Interleaved pairs of starts.")] = 3,
    shape: Shape = None,
    device: Device = DeviceName.cpu,
) -> None:
    """Compare the start-up times of `bindserve serve` and `vllm serve`, until they are ready.

    Both serve the same language model with random weights. bindserve also loads encoders: on a GPU
    encoders with the sizes of ImageBind-huge, on a CPU tiny encoders.
    """
    from model_ext.bench.serving_folder import TINY_ENCODERS
    from model_ext.imagebind.config import ImageBindConfig
    from server.bench.start_up import run

    chosen = device_of(device)
    encoders = ImageBindConfig.released() if chosen == "cuda" else TINY_ENCODERS
    try:
        typer.echo(str(run(out, pairs, shape_of(shape, chosen), encoders, chosen)))
    except (OSError, RuntimeError) as error:
        fail(str(error), code=1)


@app.command()
def full_size(
    out: Annotated[Path, typer.Option(help="Folder for the files: 21 GB.")],
) -> None:
    """Write files with the released names, shapes and types and with random weights, to test
    `convert`.
    """
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
