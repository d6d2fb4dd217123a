"""Read a LLaMA in Meta's layout: params.json and consolidated.*.pth, one file per shard.

All generations are supported. `rope_meta.py` reads the keys about positions.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model_ext.convert.llama import LLAMA_ROWS, Llama
from model_ext.convert.pickles import open_pickle
from model_ext.convert.rope_meta import ROPE_PARAMS, positions
from model_ext.weights.errors import ConvertError
from model_ext.weights.json_file import read_json
from model_ext.weights.llama_sizes import LlamaSizes
from model_ext.weights.rotary import rotate_half_rows
from model_ext.weights.table import check, expand
from model_ext.weights.tensors import LazyTensor

PARAMS = "params.json"
KNOWN_PARAMS = {
    *("dim", "n_layers", "n_heads", "n_kv_heads", "norm_eps", "vocab_size"),
    # not used, because the shapes of the tensors show the width
    *("multiple_of", "ffn_dim_multiplier"),
    *("max_seq_len", "max_batch_size"),
    *ROPE_PARAMS,
}


def open_meta(folder: Path, delta: Path | None = None) -> Llama:
    """Open the folder.

    `delta` is a folder of the same layout, whose weights are added to those of the base.

    Raises ConvertError: when a file, key or tensor is wrong.
    """
    shards = _shards(folder)
    params = _read_params(folder / PARAMS)
    stored = _open_shards(shards, params, folder)
    sizes = _sizes(folder / PARAMS, params, stored)
    check(expand(LLAMA_ROWS, sizes.letters), stored, folder)
    files = [folder / PARAMS, *shards]
    if delta is not None:
        _check_same(params, folder, delta)
        files += (delta_shards := _shards(delta))
        changes = _open_shards(delta_shards, params, delta)
        check(expand(LLAMA_ROWS, sizes.letters), changes, delta)
        stored = {name: _plus(lazy, changes[name]) for name, lazy in stored.items()}
    tensors = {}
    for name, (target, _) in expand(LLAMA_ROWS, sizes.letters).items():
        lazy = stored[name]
        if ".wq." in name or ".wk." in name:
            lazy = lazy.then(partial(rotate_half_rows, head_dim=sizes.head_dim))
        tensors[target] = lazy
    return Llama(sizes, tensors, tuple(files))


def _check_same(params: dict[str, Any], folder: Path, delta: Path) -> None:
    """Check that the params.json in `delta`, if it exists, equals that of the base."""
    if (delta / PARAMS).exists() and (other := _read_params(delta / PARAMS)) != params:
        key = next(key for key in sorted({*params, *other}) if params.get(key) != other.get(key))
        raise ConvertError(
            f"{delta / PARAMS}: {key} is {other.get(key)!r}, but {params.get(key)!r} in "
            f"{folder / PARAMS}; the patch belongs to another model"
        )


def _shards(folder: Path) -> list[Path]:
    shards = sorted(folder.glob("consolidated.*.pth"))
    if not shards:
        raise ConvertError(f"{folder}: not a LLaMA: has neither consolidated.*.pth nor config.json")
    return shards


def _open_shards(shards: list[Path], params: dict[str, Any], folder: Path) -> dict[str, LazyTensor]:
    parts = [_without_rope(open_pickle(path)) for path in shards]
    for path, part in zip(shards, parts, strict=True):
        if different := sorted(part.keys() ^ parts[0].keys()):
            raise ConvertError(f"{path}: {different[0]} is not in every shard of {folder}")
    hidden = params.get("dim")
    return {name: _join([part[name] for part in parts], hidden, folder) for name in parts[0]}


def _without_rope(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Drop the rotary frequencies that some releases store: they are computed from the sizes."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("rope.freqs")}


def _join(parts: list[LazyTensor], hidden: int | None, folder: Path) -> LazyTensor:
    """Join the shards of one tensor.

    A shard contains some rows (output dimensions) of a matrix, or some columns (input dimensions)
    of wo and w2. Of an embedding, a shard contains some hidden dimensions of all words or, since
    LLaMA 3, all hidden dimensions of some words. The shape shows which.
    """
    first = parts[0]
    name = first.name
    if len(parts) == 1:
        return first
    if any(part.shape != first.shape for part in parts):
        raise ConvertError(f"{folder}: {name} has different shapes in the shards")
    if len(first.shape) != 2:  # every shard contains a complete copy of each norm
        if any(not torch.equal(part.read(), first.read()) for part in parts):
            raise ConvertError(
                f"{folder}: {name} differs between shards; use the shards of one model"
            )
        return first
    by_input = any(word in name for word in (".wo.", ".w2."))
    by_input |= name == "tok_embeddings.weight" and first.shape[1] != hidden
    axis = 1 if by_input else 0
    shape = list(first.shape)
    shape[axis] *= len(parts)
    return LazyTensor(name, tuple(shape), first.dtype, partial(_concatenate, parts, axis))


def _concatenate(parts: list[LazyTensor], axis: int) -> torch.Tensor:
    return torch.cat([part.read() for part in parts], dim=axis)


def _plus(base: LazyTensor, delta: LazyTensor) -> LazyTensor:
    """Add in float32, then round to float16, as the published delta weights require."""
    patched = base.then(lambda value: (value.float() + delta.read().float()).half())
    return replace(patched, dtype=torch.float16)


def _sizes(path: Path, params: dict[str, Any], stored: dict[str, LazyTensor]) -> LlamaSizes:
    try:
        hidden, heads = params["dim"], params["n_heads"]
        layers, norm_eps = params["n_layers"], params["norm_eps"]
    except KeyError as error:
        raise ConvertError(f"{path}: {error.args[0]} is missing") from None
    if hidden % heads or (hidden // heads) % 2:
        raise ConvertError(f"{path}: n_heads {heads} does not divide dim {hidden} into even heads")
    rope_parameters, context = positions(params, path)
    return LlamaSizes(
        hidden_size=hidden,
        intermediate_size=_rows(stored, "layers.0.feed_forward.w1.weight", path.parent),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=params.get("n_kv_heads") or heads,
        head_dim=hidden // heads,
        vocab_size=_rows(stored, "output.weight", path.parent),
        rms_norm_eps=norm_eps,
        rope_parameters=rope_parameters,
        max_position_embeddings=context,
    )


def _read_params(path: Path) -> dict[str, Any]:
    params = read_json(path)
    if unknown := sorted(params.keys() - KNOWN_PARAMS):
        raise ConvertError(f"{path}: {unknown[0]} is not supported, so the result would be wrong")
    for key in ("dim", "n_heads", "n_layers", "n_kv_heads", "max_seq_len"):
        if key in params and params[key] is not None and not _is_count(params[key]):
            raise ConvertError(f"{path}: {key} must be a positive integer, got {params[key]!r}")
    return params


def _is_count(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 24


def _rows(stored: dict[str, LazyTensor], name: str, folder: Path) -> int:
    if name not in stored or len(stored[name].shape) != 2:
        raise ConvertError(f"{folder}: missing {name}, or it is not a matrix")
    return stored[name].shape[0]
