"""Merge a base LLaMA and an adapter into the tensors of the model's folder.

Each tensor is computed when it is written. This module does not read or write files. The sections
of config.json that describe the tensors are defined in `model_ext/config.py`.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from model_ext.config import BindConfig, InjectionConfig
from model_ext.convert.adapter import WITHOUT_BIAS, Adapter
from model_ext.convert.llama import Llama
from model_ext.weights.errors import ConvertError
from model_ext.weights.tensors import LazyTensor


def merge(llama: Llama, adapter: Adapter, dtype: torch.dtype) -> list[LazyTensor]:
    """Yield all tensors of the model: gates in float32, all others in `dtype`."""
    return [
        *language_model(llama, adapter, dtype),
        *(cast(lazy, dtype) for name, lazy in adapter.tensors.items() if name.startswith("bind.")),
        *injection(adapter, dtype),
    ]


def language_model(llama: Llama, adapter: Adapter, dtype: torch.dtype) -> Iterator[LazyTensor]:
    """Yield the LLaMA's tensors. With a finetune adapter, its norms replace the LLaMA's, its biases
    are added, and its LoRA is merged.
    """
    for name, lazy in llama.tensors.items():
        # among the LLaMA's tensors, only norms have the same name in the adapter
        trained = adapter.tensors.get(name)
        if trained is not None and adapter.stage == "finetune":
            lazy = trained
        prefix = name.removesuffix("weight")
        if prefix + "lora_a" in adapter.tensors:
            lora_a, lora_b = adapter.tensors[prefix + "lora_a"], adapter.tensors[prefix + "lora_b"]
            lazy = lazy.then(partial(add_lora, lora_a=lora_a, lora_b=lora_b))
            yield cast(lazy, dtype, name)
            yield bias(adapter, prefix + "bias", lazy.shape[0], dtype)
        else:
            yield cast(lazy, dtype, name)


def add_lora(weight: torch.Tensor, lora_a: LazyTensor, lora_b: LazyTensor) -> torch.Tensor:
    """Add the product of the LoRA factors in float32.

    Half precision would lose most of a small update.
    """
    return torch.addmm(weight.float(), lora_b.read().float(), lora_a.read().float())


def bias(adapter: Adapter, name: str, width: int, dtype: torch.dtype) -> LazyTensor:
    """Return the bias of a matrix, or zeros if it has none, because config.json declares biases for
    all matrices or for none.
    """
    if name in adapter.tensors:
        return cast(adapter.tensors[name], dtype)
    assert name.removesuffix(".bias").endswith(WITHOUT_BIAS), name
    return LazyTensor(name, (width,), dtype, partial(torch.zeros, width))


def injection(adapter: Adapter, dtype: torch.dtype) -> Iterator[LazyTensor]:
    """Yield gates, queries and the LoRA factors of v_proj, each stacked over the q injected layers.

    An adapter of the form "residual" has one gate per layer, no queries and no value matrix.
    """
    sizes, tensors = adapter.sizes, adapter.tensors
    layers = range(sizes["L"] - sizes["q"], sizes["L"])

    def stack(parts: str, name: str, shape: tuple[int, ...], stored: torch.dtype) -> LazyTensor:
        read = partial(_stack, [tensors[parts.format(i=i)].read for i in layers], shape)
        return LazyTensor(name, (sizes["q"], *shape), stored, read)

    if adapter.form == "residual":
        yield stack("injection.gate.{i}", "injection.gate", (1,), torch.float32)
        return
    # The file also has gates of layers that are not injected; training did not change them.
    yield stack("injection.gate.{i}", "injection.gate", (sizes["H"],), torch.float32)
    yield cast(tensors["injection.query"], dtype)
    if rank := sizes["r"]:
        v_proj = "model.layers.{i}.self_attn.v_proj."
        yield stack(v_proj + "lora_a", "injection.v_lora_a", (rank, sizes["C"]), dtype)
        yield stack(v_proj + "lora_b", "injection.v_lora_b", (sizes["K"], rank), dtype)


def _stack(parts: list[Callable[[], torch.Tensor]], shape: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([read().reshape(shape) for read in parts])


def cast(lazy: LazyTensor, dtype: torch.dtype, name: str | None = None) -> LazyTensor:
    return LazyTensor(name or lazy.name, lazy.shape, dtype, lazy.read)


def bind_config(adapter: Adapter) -> BindConfig:
    return BindConfig(
        in_features=adapter.sizes["D"],
        hidden_size=adapter.sizes["C"],
        intermediate_size=adapter.sizes["W"],
        blocks=adapter.sizes["J"],
        norm="layernorm" if adapter.legacy else "rmsnorm",
        norm_eps=1e-5 if adapter.legacy else 1e-6,
        bias=adapter.legacy,
    )


def injection_config(adapter: Adapter) -> InjectionConfig:
    sizes = adapter.sizes
    return InjectionConfig(
        form=adapter.form,
        first_layer=sizes["L"] - sizes["q"],
        layers=sizes["q"],
        v_correction_rank=sizes["r"] if adapter.form == "value" else 0,
    )


def check_pairing(llama: Llama, adapter: Adapter) -> None:
    """Check that a pretrain adapter was trained on this base.

    The adapter contains the base's norms unchanged. Comparing shapes is not enough: the models 7B
    and 7B_chinese have equal shapes. A finetune adapter has trained norms, so it cannot be checked.

    Raises ConvertError: when a norm differs.
    """
    if adapter.stage == "finetune":
        return
    for name, lazy in llama.norms().items():
        norm, base = adapter.tensors[name].read(), lazy.read()
        coarser = max(norm.dtype, base.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        eps = torch.finfo(coarser).eps
        if not torch.allclose(norm.float(), base.float(), rtol=eps, atol=0):
            raise ConvertError(
                f"{adapter.path}: was trained on another LLaMA than {llama.folder}: {name} differs "
                "(7B and 7B_chinese have equal shapes); use the folder that it was trained on"
            )
