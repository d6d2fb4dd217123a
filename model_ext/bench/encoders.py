"""What batching brings the encoders: many clients' files in one batch, against one after the other.

Beside it the limit: the same matrix products, with the same weights, and nothing else. Tokens and
widths are ImageBind-huge's, the depth is cut so that it fits a small machine: all blocks are alike.

Shapes: B clients, S clips of a file, R rows of a matrix product for one file.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.bench.pairs import Ratio, measure, ratio
from model_ext.imagebind.config import AudioConfig, ImageBindConfig, PointConfig, VisionConfig
from model_ext.imagebind.model import ImageBind

EQUAL = 1e-5  # how far apart the vectors of both ways may be
SHAPES = {  # of one file, as preprocessing hands it over
    "vision": (3, 224, 224),
    "audio": (3, 1, 128, 204),
    "point": (8192, 3),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    modality: str
    tokens: int  # of one clip
    width: int
    blocks: int
    clients: int
    speedup: Ratio  # of the batch over one at a time
    limit: Ratio  # the same of the matrix products alone
    share: Ratio  # speedup over limit
    apart: float  # largest difference of the vectors

    def __str__(self) -> str:
        return (
            f"{self.modality}: {self.tokens} tokens, width {self.width}, {self.blocks} blocks, "
            f"{self.clients} clients\n"
            f"  batch over one at a time  {self.speedup}\n"
            f"  matrix products alone     {self.limit}\n"
            f"  share of that limit       {self.share}\n"
            f"  vectors apart by          {self.apart:.1e}"
        )


@dataclass(frozen=True, slots=True)
class Product:
    """One matrix product of the encoder: R rows through a map, for each file."""

    rows: int
    weight: Tensor
    bias: Tensor | None


def config(blocks: int) -> ImageBindConfig:
    return ImageBindConfig(
        vision=VisionConfig(width=1280, blocks=blocks, heads=16),
        audio=AudioConfig(width=768, blocks=blocks, heads=12),
        point=PointConfig(width=384, blocks=blocks, heads=6),
    )


def load(sizes: ImageBindConfig) -> ImageBind:
    """With random weights."""
    torch.manual_seed(0)
    return ImageBind(sizes).eval()


@torch.inference_mode()
def compare(model: ImageBind, modality: str, clients: int, pairs: int) -> Outcome:
    files = torch.randn(clients, *SHAPES[modality])
    products = trace(model, modality, files[:1])
    together = model.unit(modality, files)  # which also warms up
    apart = (together - one_by_one(model, modality, files)).abs().max().item()
    if not apart <= EQUAL:
        raise RuntimeError(f"{modality}: the batch gives other vectors, {apart:.1e} apart")

    def speedup() -> float:
        alone = seconds(lambda: one_by_one(model, modality, files))
        return alone / seconds(lambda: model.unit(modality, files))

    def limit() -> float:
        alone = seconds(lambda: multiply(products, batch=1, times=clients))
        return alone / seconds(lambda: multiply(products, batch=clients, times=1))

    limit()  # warm
    measured = measure(speedup, limit, pairs)
    section = getattr(model.config, modality)
    return Outcome(
        modality=modality,
        tokens=tokens_of(model, modality),
        width=section.width,
        blocks=section.blocks,
        clients=clients,
        speedup=ratio([(ours, 1.0) for ours, _ in measured]),
        limit=ratio([(bound, 1.0) for _, bound in measured]),
        share=ratio(measured),
        apart=apart,
    )


def one_by_one(model: ImageBind, modality: str, files: Tensor) -> Tensor:
    return torch.cat([model.unit(modality, file[None]) for file in files])


def trace(model: ImageBind, modality: str, file: Tensor) -> list[Product]:
    """The products that one file takes: all linear maps and pointwise convolutions, in order."""
    found: list[Product] = []

    def seen(module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, nn.Linear | nn.Conv1d)
        weight = module.weight.flatten(1)  # a pointwise convolution has a last axis of 1
        found.append(Product(inputs[0].numel() // weight.shape[1], weight, module.bias))

    maps = [m for m in model.encoder(modality).modules() if isinstance(m, nn.Linear | nn.Conv1d)]
    hooks = [module.register_forward_hook(seen) for module in maps]
    model.unit(modality, file)
    for hook in hooks:
        hook.remove()
    return found


def multiply(products: list[Product], *, batch: int, times: int) -> None:
    """In the encoder's order, so that weights are as far from the processor's cache as there."""
    for _ in range(times):
        for product in products:
            x = torch.ones(product.rows * batch, product.weight.shape[1])
            F.linear(x, product.weight, product.bias)


def tokens_of(model: ImageBind, modality: str) -> int:
    """As the blocks see them, the class token among them."""
    seen: list[int] = []
    block = model.encoder(modality).get_submodule("trunk.blocks.0")
    hook = block.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    model.unit(modality, torch.randn(1, *SHAPES[modality]))
    hook.remove()
    return seen[0]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
