"""The speed of the encoders: files of many clients in one batch, against one file after the other.

Beside it the limit: the same matrix products, with the same weights, and nothing else. Tokens and
widths are ImageBind-huge's. All blocks have the same cost, so the depth may be cut to fit a small
machine.

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

# The largest difference between the vectors of both ways, by the weights' dtype.
MAX_DIFFERENCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-2}
MAX_TF32_DIFFERENCE = 1e-3  # of float32 on a GPU, whose convolutions compute in tf32
SHAPES = {  # of one file, after preprocessing
    "vision": (3, 224, 224),
    "audio": (3, 1, 128, 204),
    "point": (8192, 3),
    "video": (15, 3, 2, 224, 224),
}
ENCODER_OF = {"vision": "vision", "audio": "audio", "point": "point", "video": "vision"}
VIDEO_SHARE = 4  # a batch has a fourth as many videos as images: each is 15 crops

Unit = Callable[[str, Tensor], Tensor]  # encoder and inputs (B, ...) -> unit embeddings (B, D)


@dataclass(frozen=True, slots=True)
class EncoderResult:
    modality: str
    tokens: int  # of one clip
    width: int
    blocks: int
    files: int  # in a batch
    speedup: Ratio  # of the batch over one file at a time
    limit: Ratio  # the same of the matrix products alone
    share: Ratio  # speedup over limit
    difference: float  # largest difference of the vectors
    one_s: float  # median seconds of one file alone
    batch_s: float  # median seconds of the batch
    flops: int  # of one file

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
            f"  batch over one at a time  {self.speedup}\n"
            f"  matrix products alone     {self.limit}\n"
            f"  share of that limit       {self.share}\n"
            f"  vectors differ by         {self.difference:.1e}"
        )


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product of the encoder: R rows through a map, for each file."""

    rows: int
    weight: Tensor
    bias: Tensor | None


def config(blocks: int | None = None, encoder: str | None = None) -> ImageBindConfig:
    """ImageBind-huge's sizes, of all measured encoders or of one. `blocks` cuts their depth."""
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
    """Encoders with random weights, created on the device."""
    torch.manual_seed(0)
    with torch.device(device):
        model = ImageBind(sizes)
    return model.cast(dtype).eval()


@torch.inference_mode()
def compare(
    model: ImageBind, modality: str, clients: int, pairs: int, unit: Unit | None = None
) -> EncoderResult:
    """`clients` files in a batch against one after the other; of videos, a fourth as many.

    `unit` encodes a batch, by default the model itself. It may reuse the memory of its result.

    Raises RuntimeError: when the batch gives other vectors than the files alone.
    """
    unit = unit or model.unit
    encoder = ENCODER_OF[modality]
    weight = next(model.encoder(encoder).parameters())
    device = weight.device
    count = max(2, clients // VIDEO_SHARE) if modality == "video" else clients
    files = torch.randn(count, *SHAPES[modality], device=device)
    products = trace(model, encoder, files[:1])
    together = unit(encoder, files).clone()  # which also warms up
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

    limit()  # warm
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
    """The products that one file takes: all linear maps and pointwise convolutions, in order."""
    products: list[Product] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.Linear | nn.Conv1d)
        weight = module.weight.flatten(1)  # a pointwise convolution has a last axis of 1
        products.append(Product(inputs[0].numel() // weight.shape[1], weight, module.bias))

    maps = [m for m in model.encoder(encoder).modules() if isinstance(m, nn.Linear | nn.Conv1d)]
    hooks = [module.register_forward_hook(record) for module in maps]
    model.unit(encoder, file)
    for hook in hooks:
        hook.remove()
    return products


def flops_of(model: ImageBind, encoder: str, file: Tensor) -> int:
    """Floating-point operations of one file; a multiply-add counts as two."""
    # The counter knows no fused attention of the CPU, but the products that it consists of.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.unit(encoder, file)
    return int(counter.get_total_flops())


def multiply(products: list[Product], *, batch: int, times: int) -> None:
    """In the encoder's order, so that weights are as far from the processor's cache as there."""
    for _ in range(times):
        for product in products:
            rows = product.weight.new_ones(product.rows * batch, product.weight.shape[1])
            F.linear(rows, product.weight, product.bias)


def tokens_of(model: ImageBind, modality: str) -> int:
    """The number of tokens that the blocks get, with the class token."""
    counts: list[int] = []
    encoder = ENCODER_OF[modality]
    block = model.encoder(encoder).get_submodule("trunk.blocks.0")
    hook = block.register_forward_hook(lambda _, inputs, __: counts.append(inputs[0].shape[1]))
    device = next(block.parameters()).device
    model.unit(encoder, torch.randn(1, *SHAPES[modality], device=device))
    hook.remove()
    return counts[0]
