"""Read an ImageBind-LLM adapter, the weights that training adds to a base LLaMA.

An adapter contains a bind network, gates and layer queries. After the finetune phase it also
contains LoRA factors, biases and norms. This module needs only the sizes of the base LLaMA.

Letters, in addition to those of `llama.py`: D embedding, W bind network's inner width, q injected
layers, r LoRA rank.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from model_ext.config import InjectionForm
from model_ext.convert.pickles import open_pickle
from model_ext.weights.errors import ConvertError
from model_ext.weights.llama_sizes import LlamaSizes
from model_ext.weights.rotary import rotate_half_rows
from model_ext.weights.table import Row, check, expand
from model_ext.weights.tensors import LazyTensor

BLOCKS = 3  # number of blocks of the bind network in all releases

BIND_ROWS = (
    Row("image_bind_proj.weight", "C D", "bind.proj.weight"),
    Row("image_bind_proj.bias", "C", "bind.proj.bias"),
    Row("image_bind_norm_{j}.weight", "C", "bind.blocks.{k}.norm.weight"),
    Row("image_bind_f1_{j}.weight", "W C", "bind.blocks.{k}.gate_proj.weight"),
    Row("image_bind_f2_{j}.weight", "C W", "bind.blocks.{k}.down_proj.weight"),
    Row("image_bind_f3_{j}.weight", "W C", "bind.blocks.{k}.up_proj.weight"),
)
LEGACY_ROWS = (
    Row("image_bind_norm_{j}.bias", "C", "bind.blocks.{k}.norm.bias"),
    Row("image_bind_f1_{j}.bias", "W", "bind.blocks.{k}.gate_proj.bias"),
    Row("image_bind_f2_{j}.bias", "C", "bind.blocks.{k}.down_proj.bias"),
    Row("image_bind_f3_{j}.bias", "W", "bind.blocks.{k}.up_proj.bias"),
)
INJECTION_ROWS = (
    Row("prefix_query.weight", "q C", "injection.query"),
    Row("llama.layers.{i}.attention.gate", "1 H 1 1", "injection.gate.{i}"),
)
NORM_ROWS = (
    Row("llama.layers.{i}.attention_norm.weight", "C", "model.layers.{i}.input_layernorm.weight"),
    Row(
        "llama.layers.{i}.ffn_norm.weight", "C", "model.layers.{i}.post_attention_layernorm.weight"
    ),
    Row("llama.norm.weight", "C", "model.norm.weight"),
)
MAPS = (  # released name, input letter, output letter, name in the model's folder
    ("attention.{}wq", "C", "Q", "self_attn.q_proj"),
    ("attention.{}wk", "C", "K", "self_attn.k_proj"),
    ("attention.{}wv", "C", "K", "self_attn.v_proj"),
    ("attention.{}wo", "Q", "C", "self_attn.o_proj"),
    ("feed_forward.{}w1", "C", "F", "mlp.gate_proj"),
    ("feed_forward.{}w2", "F", "C", "mlp.down_proj"),
    ("feed_forward.{}w3", "C", "F", "mlp.up_proj"),
)
WITHOUT_BIAS = ("self_attn.k_proj", "self_attn.v_proj")
BIAS_ROWS = tuple(
    Row(f"llama.layers.{{i}}.{source.format('')}.bias", out, f"model.layers.{{i}}.{target}.bias")
    for source, _, out, target in MAPS
    if target not in WITHOUT_BIAS
)
LORA_ROWS = tuple(
    row
    for source, into, out, target in MAPS
    for row in (
        Row(
            f"llama.layers.{{i}}.{source.format('lora_')}_l1.weight",
            f"r {into}",
            f"model.layers.{{i}}.{target}.lora_a",
        ),
        Row(
            f"llama.layers.{{i}}.{source.format('lora_')}_l2.weight",
            f"{out} r",
            f"model.layers.{{i}}.{target}.lora_b",
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An opened adapter.

    The rows of its query and key matrices are in rotate-half order (`rotary.py`).

    The names of `tensors` are those of the model's folder, except that each layer has a separate
    gate (`injection.gate.{i}`), and each LoRA factor is a separate tensor (`<map>.lora_a`,
    `<map>.lora_b`). `merge.py` stacks the gates and adds the product of the factors to
    `<map>.weight`.
    """

    path: Path
    stage: Literal["pretrain", "finetune"]
    legacy: bool
    sizes: dict[str, int]  # letter of a dimension -> size; r is 0 without LoRA
    tensors: dict[str, LazyTensor]
    # Released adapters all have the form "value"; training can also create "residual" adapters.
    form: InjectionForm = "value"


def open_adapter(path: Path, llama: LlamaSizes) -> Adapter:
    """Open an adapter of any training phase, from a release (old or new) or a training checkpoint.

    Raises ConvertError: when a tensor is missing, unknown, or of the wrong shape.
    """
    released = _filter(path)
    finetune = any("lora" in name for name in released)
    legacy = "image_bind_norm_1.bias" in released
    sizes = {
        **llama.letters,
        "J": BLOCKS,
        "D": _size(path, released, "image_bind_proj.weight", 1),
        "W": _size(path, released, "image_bind_f1_1.weight", 0),
        "q": _size(path, released, "prefix_query.weight", 0),
        "r": 0,
    }
    if not 0 < sizes["q"] <= sizes["L"]:
        raise ConvertError(
            f"{path}: prefix_query.weight has {sizes['q']} rows for a LLaMA of {sizes['L']} layers"
        )
    rows: tuple[Row, ...] = BIND_ROWS + INJECTION_ROWS + NORM_ROWS
    if legacy:
        rows += LEGACY_ROWS
    if finetune:
        sizes["r"] = _size(path, released, "llama.layers.0.attention.lora_wq_l1.weight", 0)
        rows += BIAS_ROWS + LORA_ROWS
    expected = expand(rows, sizes)
    check(expected, released, path)
    tensors = {
        target: _reorder(replace(released[name], name=target), llama.head_dim)
        for name, (target, _) in expected.items()
    }
    return Adapter(path, "finetune" if finetune else "pretrain", legacy, sizes, tensors)


def _filter(path: Path) -> dict[str, LazyTensor]:
    """Open the file, correct old tensor names ("llma"), and keep only the adapter's tensors.

    A training checkpoint also contains the image encoder and the base LLaMA.
    """
    kept = {}
    for name, value in open_pickle(path).items():
        name = name.replace("llma", "llama")
        trained = any(word in name for word in ("bias", "gate", "lora", "norm"))
        if (
            name.startswith("image_bind.")  # not kept: the image encoder,
            or (name.startswith("llama.") and not trained)  # the base LLaMA's matrices,
            or name.startswith("prefix_projector_norm.")  # and a norm of an older model
        ):
            continue
        if name in kept:
            raise ConvertError(f"{path}: {name} occurs in two spellings, llama and llma")
        kept[name] = value
    return kept


def _size(path: Path, released: dict[str, LazyTensor], name: str, axis: int) -> int:
    if name not in released:
        raise ConvertError(f"{path}: missing {name}; is it an ImageBind-LLM adapter?")
    if len(released[name].shape) != 2:
        raise ConvertError(f"{path}: {name} has shape {released[name].shape}, expected a matrix")
    return released[name].shape[axis]


def _reorder(lazy: LazyTensor, head_dim: int) -> LazyTensor:
    rotary = lazy.name.endswith(("q_proj.bias", "q_proj.lora_b", "k_proj.lora_b"))
    return lazy.then(partial(rotate_half_rows, head_dim=head_dim)) if rotary else lazy
