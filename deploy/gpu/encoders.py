"""Step `encoders`: files/s and TFLOP/s of each encoder, for one file alone and for batches."""

from importlib import import_module
from importlib.util import find_spec

import torch

from deploy.gpu.arguments import Arguments
from deploy.gpu.rows import Rows
from model_ext.bench.encoders import ENCODER_OF, EncoderResult, Unit, compare, config, load
from model_ext.imagebind.model import ImageBind

FULL_FILES, TINY_FILES = 16, 2
FULL_PAIRS, TINY_PAIRS = 3, 2
MAX_TOKENS = 4 * 15 * 257  # tokens of four videos: a video has 15 images, an image 257 tokens
FULL_MODALITIES = ("vision", "audio", "point", "video")
TINY_MODALITIES = ("vision", "audio", "point")
# The goals for an H200: files/s in a batch, and milliseconds for one file alone.
MIN_FILES_PER_S = {"vision": 1300, "audio": 2400}
MAX_ONE_MS = {"vision": 4, "point": 5}


def main() -> None:
    arguments = Arguments.parse(__doc__)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = [torch.bfloat16, torch.float32] if arguments.full else [torch.float32]
    arguments.wait_until_quiet()
    for dtype in dtypes:
        for modality in FULL_MODALITIES if arguments.full else TINY_MODALITIES:
            with arguments.rows.checking(f"{modality}, {dtype} runs"):
                measure(arguments, modality, device, dtype)


def measure(arguments: Arguments, modality: str, device: str, dtype: torch.dtype) -> None:
    blocks = None if arguments.full else 1
    model = load(config(blocks, ENCODER_OF[modality]), device, dtype)
    files, pairs = TINY_FILES, TINY_PAIRS
    if arguments.full:
        files, pairs = FULL_FILES, FULL_PAIRS
    result = compare(model, modality, files, pairs, unit=unit_of(model, device))
    goals = arguments.full and dtype is torch.bfloat16 and "H200" in torch.cuda.get_device_name()
    report(arguments.rows, result, str(dtype).removeprefix("torch."), goals)


def unit_of(model: ImageBind, device: str) -> Unit:
    """Return the server's function that encodes. On a GPU, this function uses CUDA graphs."""
    if device == "cpu" or find_spec("model_ext.imagebind.graphs") is None:
        return model.unit
    graphs = import_module("model_ext.imagebind.graphs")
    graphed = graphs.Graphs(model, graphs.capture_on_gpu(torch.device(device, 0)))
    graphed.warm_up(MAX_TOKENS)
    unit: Unit = graphed.unit
    return unit


def report(rows: Rows, result: EncoderResult, dtype: str, goals: bool) -> None:
    name = f"{result.modality}, {dtype}"
    rows.number(
        f"{name}: batch of {result.files}",
        result.files_per_s,
        "files/s",
        at_least=MIN_FILES_PER_S.get(result.modality) if goals else None,
        detail=f"({result.tflops:,.3g} TFLOP/s)",
    )
    rows.number(
        f"{name}: one file alone",
        result.one_s * 1000,
        "ms",
        at_most=MAX_ONE_MS.get(result.modality) if goals else None,
    )


if __name__ == "__main__":
    main()
