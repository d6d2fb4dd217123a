"""Measure how much faster the encoders process files in one batch than one file after the other.
Also measure an upper limit: the speedup of the encoders' matrix products without the rest of the
encoder. Token counts and widths are those of ImageBind-huge. All blocks of an encoder cost the
same, so a small machine can measure fewer blocks.

Shapes: B files, S clips of a file, R rows of a matrix product for one file.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model_ext.bench.pairs import Ratio, measure, ratio
from model_ext.bench.timing import seconds
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind

# The largest allowed difference between the embeddings from a batch and from single files, for each
# dtype of the weights.
MAX_DIFFERENCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
# The largest allowed difference for float32 weights on a GPU, which computes convolutions in tf32.
MAX_TF32_DIFFERENCE = 1e-3

# Modality -> shape of one preprocessed file
SHAPES = {
    "vision": (3, 224, 224),
    "audio": (3, 1, 128, 204),
    "point": (8192, 3),
    "video": (15, 3, 2, 224, 224),
}
ENCODER_OF = {"vision": "vision", "audio": "audio", "point": "point", "video": "vision"}
VIDEO_SHARE = 4  # An image batch has 4 times as many files as a video batch.

# A function that encodes a batch: (encoder's name, inputs (B, ...)) -> embeddings (B, D) of length
# 1
Unit = Callable[[str, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class EncoderResult:
    modality: str
    tokens: int  # Number of tokens of one clip.
    width: int
    blocks: int
    files: int  # Number of files in a batch.
    speedup: Ratio  # Files per second in a batch / files per second without batches.
    limit: Ratio  # The same ratio, for the matrix products without the rest of the encoder.
    share: Ratio  # `speedup` divided by `limit`.
    difference: float  # Largest difference between embeddings with and without batches.
    one_s: float  # Median seconds to encode one file alone.
    batch_s: float  # Median seconds to encode the batch.
    flops: int  # Floating-point operations of one file.

    @property
    def files_per_s(self) -> float:
        return self.files / self.batch_s

    @property
    def tflops(self) -> float:
        """TFLOP/s of the batch."""
        return self.flops * self.files_per_s / 1e12

    def __str__(self) -> str:
        return (
            f"{self.modality}: {self.tokens} tokens, width {self.width}, {self.blocks} blocks, "
            f"{self.files} files\n"
            f"  one file alone            {self.one_s * 1000:.1f} ms\n"
            f"  batch                     {self.files_per_s:.1f} files/s, "
            f"{self.tflops:.2f} TFLOP/s\n"
            f"  batch / one at a time     {self.speedup}\n"
            f"  matrix products alone     {self.limit}\n"
            f"  share of that limit       {self.share}\n"
            f"  vectors differ by         {self.difference:.1e}"
        )


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product of the encoder: each file has R rows, which are multiplied by a weight
    matrix.
    """

    rows: int
    weight: Tensor
    bias: Tensor | None


def config(blocks: int | None = None, encoder: str | None = None) -> ImageBindConfig:
    """Return ImageBind-huge's sizes for all measured encoders, or for one encoder. `blocks`: number
    of blocks per encoder.
    """
    released = ImageBindConfig.released()
    sections = {}
    for name in sorted(set(ENCODER_OF.values())) if encoder is None else [encoder]:
        section = getattr(released, name)
        sections[name] = section if blocks is None else replace(section, blocks=blocks)
    return ImageBindConfig(**sections)


def load(
    sizes: ImageBindConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ImageBind:
    """Create encoders with random weights on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = ImageBind(sizes)
    return model.cast(dtype).eval()


@torch.inference_mode()
def compare(
    model: ImageBind, modality: str, clients: int, pairs: int, unit: Unit | None = None
) -> EncoderResult:
    """Measure how long `clients` files (or `clients` / 4 videos) take in one batch, and one by one.

    `unit`: the function that encodes a batch; default: the model's. A call of `unit` may overwrite
    the result of the previous call.

    Raises RuntimeError: when a batch gives other embeddings than single files.
    """
    unit = unit or model.unit
    encoder = ENCODER_OF[modality]
    weight = next(model.encoder(encoder).parameters())
    device = weight.device
    count = max(2, clients // VIDEO_SHARE) if modality == "video" else clients
    files = torch.randn(count, *SHAPES[modality], device=device)
    products = trace(model, encoder, files[:1])
    together = unit(encoder, files).clone()  # this check also warms up the encoder
    difference = (together - one_by_one(unit, encoder, files)).abs().max().item()
    if not difference <= max_difference(model.encoder(encoder)):
        raise RuntimeError(f"{modality}: the batch's vectors differ by {difference:.1e}")
    batch_times, single_times = list[float](), list[float]()

    def speedup() -> float:
        single_times.append(seconds(lambda: one_by_one(unit, encoder, files), device))
        batch_times.append(seconds(lambda: unit(encoder, files), device))
        return single_times[-1] / batch_times[-1]

    def limit() -> float:
        single = seconds(lambda: multiply(products, batch=1, times=count), device)
        return single / seconds(lambda: multiply(products, batch=count, times=1), device)

    limit()  # a warm-up, which is not measured
    measured = measure(speedup, limit, pairs)
    section = getattr(model.config, encoder)
    return EncoderResult(
        modality=modality,
        tokens=tokens_of(model, modality),
        width=section.width,
        blocks=section.blocks,
        files=count,
        speedup=ratio([(speedup, 1.0) for speedup, _ in measured]),
        limit=ratio([(limit, 1.0) for _, limit in measured]),
        share=ratio(measured),
        difference=difference,
        one_s=statistics.median(single_times) / count,
        batch_s=statistics.median(batch_times),
        flops=flops_of(model, encoder, files[:1]),
    )


def max_difference(encoder: nn.Module) -> float:
    weight = next(parameter for parameter in encoder.parameters() if parameter.ndim > 1)
    if weight.dtype == torch.float32 and weight.is_cuda:
        return MAX_TF32_DIFFERENCE
    return MAX_DIFFERENCE[weight.dtype]


def one_by_one(unit: Unit, encoder: str, files: Tensor) -> Tensor:
    return torch.cat([unit(encoder, file[None]).clone() for file in files])


def trace(model: ImageBind, encoder: str, file: Tensor) -> list[Product]:
    """List the matrix products of one file in order: all linear maps and pointwise convolutions."""
    products: list[Product] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.Linear | nn.Conv1d)
        # remove the last axis of a pointwise convolution's weight
        weight = module.weight.flatten(1)
        products.append(Product(inputs[0].numel() // weight.shape[1], weight, module.bias))

    maps = [m for m in model.encoder(encoder).modules() if isinstance(m, nn.Linear | nn.Conv1d)]
    hooks = [module.register_forward_hook(record) for module in maps]
    model.unit(encoder, file)
    for hook in hooks:
        hook.remove()
    return products


def flops_of(model: ImageBind, encoder: str, file: Tensor) -> int:
    """Count the floating-point operations for one file. A multiply-add counts as two."""
    # Run attention as separate products, because FlopCounterMode does not count the CPU's fused
    # attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.unit(encoder, file)
    return int(counter.get_total_flops())


def multiply(products: list[Product], *, batch: int, times: int) -> None:
    """Compute the products in the encoder's order, so that they profit from the processor's cache
    no more than the encoder does.
    """
    for _ in range(times):
        for product in products:
            rows = product.weight.new_ones(product.rows * batch, product.weight.shape[1])
            F.linear(rows, product.weight, product.bias)


def tokens_of(model: ImageBind, modality: str) -> int:
    """Return the number of tokens in the encoder's blocks, including the class token."""
    counts: list[int] = []
    encoder = ENCODER_OF[modality]
    block = model.encoder(encoder).get_submodule("trunk.blocks.0")
    hook = block.register_forward_hook(lambda _, inputs, __: counts.append(inputs[0].shape[1]))
    device = next(block.parameters()).device
    model.unit(encoder, torch.randn(1, *SHAPES[modality], device=device))
    hook.remove()
    return counts[0]
