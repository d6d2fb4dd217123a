"""Small random base models of every supported family, in Hugging Face's layout, with adapters.

The head size is 32 or 64, the smallest sizes that vLLM's attention on a CPU supports. The
vocabulary is that of the test fixtures.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from model_ext.bench.full_size import adapter_layout, fill
from model_ext.convert.llama_hf import open_hf
from model_ext.convert.sources import Sources

TINY = Path(__file__).parent / "fixtures" / "tiny"
COMMON: dict[str, Any] = {
    **{"hidden_size": 128, "intermediate_size": 224, "num_hidden_layers": 3, "vocab_size": 512},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512},
    "initializer_range": 0.12,
}
LLAMA3_ROPE = {
    **{"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0},
    # With this context length, LLaMA 3.1's scaling leaves some rotations unchanged, scales some and
    # interpolates some.
    **{"high_freq_factor": 4.0, "original_max_position_embeddings": 64},
}
FAMILIES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "llama2": (LlamaForCausalLM, {"num_key_value_heads": 4}),
    "llama3": (LlamaForCausalLM, {"rope_parameters": LLAMA3_ROPE}),
    "smollm2": (
        LlamaForCausalLM,
        {
            **{"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1},
            **{"tie_word_embeddings": True},
        },
    ),
    "mistral": (MistralForCausalLM, {"sliding_window": 8}),
    "mistral_nemo": (MistralForCausalLM, {"sliding_window": None, "head_dim": 64}),
}


def write_base(folder: Path, family: str) -> Path:
    """Write a random base model with `save_pretrained`."""
    model_class, changes = FAMILIES[family]
    config_class = MistralConfig if model_class is MistralForCausalLM else LlamaConfig
    torch.manual_seed(0)
    model_class(config_class(**{**COMMON, **changes})).save_pretrained(folder)
    return folder


def write_adapter(path: Path, base: Path, stage: str) -> Path:
    """Write an adapter in the released layout for the base's sizes.

    With grouped heads, wk and wv have fewer rows. A pretrain adapter contains the norms of its
    base.
    """
    llama = open_hf(base)
    letters = {**llama.sizes.letters, "D": 40, "J": 3, "W": 256, "q": 2, "r": 8}
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, (shape, dtype) in adapter_layout(letters).items():
        if stage == "pretrain" and ("lora" in name or _is_llama_bias(name)):
            continue
        tensors[name] = torch.empty(shape, dtype=dtype)
        fill(name, tensors[name], generator)
    if stage == "pretrain":
        released = {"input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
        for name, lazy in llama.norms().items():
            for converted, original in released.items():
                name = name.replace(converted, original)
            tensors[name.replace("model.", "llama.", 1)] = lazy.read()
    torch.save({"model": tensors}, path)
    return path


def _is_llama_bias(name: str) -> bool:
    return name.startswith("llama.") and name.endswith(".bias")


def write_sources(folder: Path, family: str, stage: str, tokenizer: Path) -> Sources:
    base = write_base(folder / "base", family)
    return Sources(
        llama=base,
        adapter=write_adapter(folder / "adapter.pth", base, stage),
        imagebind=TINY / "imagebind_w3D.pth",
        tokenizer=tokenizer,
    )
