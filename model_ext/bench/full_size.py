"""Write checkpoints with random weights for the 7B LLaMA, the adapter and the encoders. Tensor
names, shapes and dtypes are those of the released files, so that conversion and loading can be
measured without the released files. The answers of a model with random weights are meaningless. No
file is held in memory: each file is created, memory-mapped and then filled.
"""

import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from model_ext.bench.random_tokenizer import write_tokenizer
from model_ext.convert.adapter import (
    BIAS_ROWS,
    BIND_ROWS,
    BLOCKS,
    INJECTION_ROWS,
    LORA_ROWS,
    NORM_ROWS,
)
from model_ext.convert.llama import LLAMA_ROWS
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.names import TO_OURS, to_released
from model_ext.weights.table import expand

Layout = dict[str, tuple[tuple[int, ...], torch.dtype]]

LLAMA_7B = {"C": 4096, "F": 11008, "H": 32, "K": 4096, "L": 32, "Q": 4096, "V": 32000}
ADAPTER_7B = {"D": 1024, "J": BLOCKS, "W": 16384, "q": 32, "r": 16}
LOG_SCALE = math.log(10)
GATE = 0.5  # gate value before tanh; tanh(0.5) = 0.46


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all models. `convert/llama.py` and `convert/adapter.py` explain the letters."""

    llama: Mapping[str, int]
    adapter: Mapping[str, int]
    imagebind: ImageBindConfig

    @classmethod
    def released(cls) -> "Sizes":
        return cls(LLAMA_7B, ADAPTER_7B, ImageBindConfig.released())


def write(out: Path, sizes: Sizes, *, progress: bool = True) -> None:
    """Write out/llama/7B/, out/7B.pth and out/imagebind_w3D.pth, in the layout of the released
    files.
    """
    llama = out / "llama" / "7B"
    llama.mkdir(parents=True, exist_ok=True)
    letters = sizes.llama
    params = {
        "dim": letters["C"],
        "multiple_of": 256,
        "n_heads": letters["H"],
        "n_layers": letters["L"],
        "norm_eps": 1e-6,
        "vocab_size": -1,
    }
    (llama / "params.json").write_text(json.dumps(params))
    write_tokenizer(llama.parent / "tokenizer.model", letters["V"])
    files = {
        llama / "consolidated.00.pth": llama_layout(letters),
        out / "7B.pth": adapter_layout({**letters, **sizes.adapter}),
        out / "imagebind_w3D.pth": imagebind_layout(sizes.imagebind),
    }
    size = sum(map(size_of, files.values()))
    generator = torch.Generator().manual_seed(0)
    with tqdm(total=size, unit="B", unit_scale=True, disable=not progress) as bar:
        for path, layout in files.items():
            bar.set_description(path.name)
            for name, tensor in lay_out(path, layout, wrapped=path.name == "7B.pth").items():
                fill(name, tensor, generator)
                bar.update(tensor.nbytes)


def llama_layout(letters: Mapping[str, int]) -> Layout:
    return {name: (e.shape, torch.float16) for name, e in expand(LLAMA_ROWS, letters).items()}


def adapter_layout(letters: Mapping[str, int]) -> Layout:
    """Write the adapter of the finetune phase as a training run saves it, with frozen tensors in
    float16.
    """
    rows = BIND_ROWS + INJECTION_ROWS + NORM_ROWS + BIAS_ROWS + LORA_ROWS
    return {
        name: (e.shape, torch.float16 if name.endswith(".gate") else torch.float32)
        for name, e in expand(rows, letters).items()
    }


def imagebind_layout(config: ImageBindConfig) -> Layout:
    with torch.device("meta"):
        model = ImageBind(config)
    tensors = model.state_dict().items()
    layout: Layout = {to_released(name): (tuple(t.shape), torch.float32) for name, t in tensors}
    if config.text is None:
        raise ValueError("the released ImageBind file contains a text encoder")
    side = config.text.context_length
    for name in (released for released, name in TO_OURS.items() if name is None):
        if name.endswith("num_batches_tracked"):
            layout[name] = (), torch.int64
        else:
            layout[name] = (side, side), torch.float32  # the text encoder's causal mask
    return layout


def size_of(layout: Layout) -> int:
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in layout.values())


def lay_out(path: Path, layout: Layout, *, wrapped: bool) -> dict[str, Tensor]:
    """Create a checkpoint file without values, and return its memory-mapped tensors. Values that
    are written to these tensors go to disk.
    """
    empty = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in layout.items()}
    with torch.serialization.skip_data():
        torch.save({"model": empty} if wrapped else empty, path)
    del empty
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        content = torch.load(path, mmap=True, weights_only=True)
    tensors: dict[str, Tensor] = content["model"] if wrapped else content
    return tensors


def fill(name: str, tensor: Tensor, generator: torch.Generator) -> None:
    """Fill a tensor with values that keep the size of activations about constant over the
    layers.
    """
    if tensor.dtype == torch.int64 or name.endswith("text.mask"):
        tensor.zero_()
    elif name.endswith("log_logit_scale"):
        tensor.fill_(LOG_SCALE)
    elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith(".weight")):
        tensor.fill_(1)
    else:
        fan_in = tensor[0].numel() if tensor.ndim > 1 else len(tensor)
        deviation = GATE if name.endswith(".gate") else fan_in**-0.5
        tensor.normal_(0, deviation, generator=generator)
