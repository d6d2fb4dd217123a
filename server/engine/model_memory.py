"""Estimate the memory that vLLM's engine needs, from a model's folder and vLLM's flags.

The headers of the safetensors files give the sizes of the weights. This module does not depend on
vLLM or torch.
"""

import json
from argparse import Namespace
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from model_ext.engine.settings import ArrivalSettings
from server.engine.memory_budget import EngineNeeds, GiB

BYTES = {"I64": 8, "I32": 4, "I16": 2}  # Bytes of one number; other integer types have one byte.
# vLLM casts numbers of these types to the dtype of its model.
FLOATS = ("F64", "F32", "F16", "BF16")
MAX_HEADER_BYTES = 100 << 20  # Maximum size of a header in the safetensors format.
LARGE_CARD = 70 * GiB  # vLLM's default batch sizes are larger on a GPU of at least this size.


def engine_needs(folder: Path, args: Namespace, card_bytes: int) -> EngineNeeds:
    """Estimate the engine's needs on a GPU with `card_bytes` of memory. `args`: vLLM's parsed
    flags.

    Raises OSError, ValueError, KeyError: when config.json or a safetensors file is damaged.
    """
    config = json.loads((folder / "config.json").read_bytes())
    cards = args.tensor_parallel_size * args.pipeline_parallel_size
    width = dtype_bytes(args.dtype)
    weights = weight_bytes(folder, width) or llama_parameters(config) * width
    max_model_len = args.max_model_len or int(config.get("max_position_embeddings", 2048))
    large = card_bytes >= LARGE_CARD
    return EngineNeeds(
        weights=weights // cards,
        maps=map_bytes(config, args, width),
        draft=draft_bytes(args.speculative_config, width) // cards,
        activations=activation_bytes(
            config,
            args.max_num_batched_tokens or (8192 if large else 2048),
            args.max_num_seqs or (1024 if large else 256),
            width,
        ),
        kv_per_token=max(1, kv_bytes(config, args, width) // cards),
        max_model_len=max(1, max_model_len),  # -1: vLLM uses the longest length that fits
        kv_cache=args.kv_cache_memory_bytes,
    )


def dtype_bytes(flag: str) -> int:
    """Return the bytes of one number in the LLM. With the dtype `auto`, vLLM converts float32
    weights to half precision.
    """
    return 4 if flag in ("float", "float32") else 2


def weight_bytes(folder: Path, width: int) -> int:
    """Return the memory of the weights in the folder's safetensors files. 0 if there are none.

    `width`: the bytes of a floating-point number.
    """
    return sum(file_bytes(path, width) for path in sorted(folder.glob("*.safetensors")))


def file_bytes(path: Path, width: int) -> int:
    """Return the memory of the weights in one file. Raises ValueError: when the header is
    damaged.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"{path}: not a safetensors file")
        header = json.loads(file.read(length))
    size = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            number = tensor["dtype"]
            size += prod(tensor["shape"]) * (width if number in FLOATS else BYTES.get(number, 1))
    return size


def llama_parameters(config: Mapping[str, Any]) -> int:
    """Count a LLaMA's parameters, for a model folder without weights (--load-format dummy)."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    layer = 2 * hidden**2 + 2 * hidden * kv_width(config) + 3 * hidden * inner
    return int(config["num_hidden_layers"] * layer + 2 * config["vocab_size"] * hidden)


def kv_width(config: Mapping[str, Any]) -> int:
    """Return how many numbers a token's key has in one layer. A token's value has as many."""
    heads = config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    return int((config.get("num_key_value_heads") or heads) * size)


def kv_bytes(config: Mapping[str, Any], args: Namespace, width: int) -> int:
    """Return the bytes of the KV cache for one token in all layers."""
    number = 1 if str(args.kv_cache_dtype).startswith("fp8") else width
    return int(2 * config["num_hidden_layers"] * kv_width(config) * number)


def map_bytes(config: Mapping[str, Any], args: Namespace, width: int) -> int:
    """Return the bytes of the products of layer weights that new requests use.

    `model_ext/engine/fold.py` computes these products at the start, and the engine keeps them.
    """
    injection = config.get("injection", {})
    shares_layers = ArrivalSettings.of(args.additional_config).arrival == "layers"
    if injection.get("form") != "value" or shares_layers:
        return 0
    if args.tensor_parallel_size > 1 or args.quantization:
        return 0  # quantised weights cannot be multiplied in advance
    hidden = config["hidden_size"]
    numbers = injection["layers"] * hidden * min(hidden, 2 * kv_width(config))
    return int(numbers * width // args.pipeline_parallel_size)


def draft_bytes(speculative: Any, width: int) -> int:
    """Return the bytes of the draft model's weights (vLLM's --speculative-config).

    0 if there is no draft model, e.g. for speculation with n-grams.
    """
    options = json.loads(speculative) if isinstance(speculative, str) else speculative or {}
    folder = Path(str(options.get("model") or ""))
    return weight_bytes(folder, width) if options.get("model") and folder.is_dir() else 0


def activation_bytes(config: Mapping[str, Any], tokens: int, sequences: int, width: int) -> int:
    """Estimate the peak memory of vLLM's profiling run: the activations of one layer in the largest
    step, and the logits.
    """
    layer = tokens * (6 * config["hidden_size"] + 3 * config["intermediate_size"]) * width
    logits = 2 * 4 * sequences * config["vocab_size"]  # logits are float32, and vLLM makes one copy
    return int(layer + logits)
