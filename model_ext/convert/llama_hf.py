"""Read a LLaMA in Hugging Face's layout: config.json and safetensors (or .bin) files."""

from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from transformers import LlamaConfig

from model_ext.convert.errors import ConvertError
from model_ext.convert.llama import LLAMA_ROWS, Llama, LlamaSizes
from model_ext.convert.pickles import open_pickle
from model_ext.convert.table import Row, check, expand
from model_ext.convert.tensors import LazyTensor

ROWS = tuple(Row(row.target, row.shape, row.target) for row in LLAMA_ROWS)
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def open_hf(folder: Path) -> Llama:
    sizes = _sizes(folder)
    found, files = _open_files(folder)
    rows = tuple(row for row in ROWS if not (sizes.tie_word_embeddings and "lm_head" in row.target))
    if sizes.tie_word_embeddings:
        found.pop("lm_head.weight", None)  # a copy of the embedding
    check(expand(rows, sizes.letters), found, folder)
    tensors = {name: found[name] for name in expand(rows, sizes.letters)}
    return Llama(sizes, tensors, (folder / "config.json", *files))


def _sizes(folder: Path) -> LlamaSizes:
    config = LlamaConfig.from_pretrained(folder)
    if config.architectures != ["LlamaForCausalLM"]:
        raise ConvertError(f"{folder / 'config.json'}: architectures is {config.architectures}")
    if config.attention_bias or config.mlp_bias:
        raise ConvertError(f"{folder / 'config.json'}: a base with biases is not supported")
    return LlamaSizes(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters=dict(config.rope_parameters),
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=config.tie_word_embeddings,
    )


def _open_files(folder: Path) -> tuple[dict[str, LazyTensor], list[Path]]:
    found: dict[str, LazyTensor] = {}
    files = sorted(folder.glob("*.safetensors"))
    for path in files:
        found |= _open_safetensors(path)
    if not files:
        files = sorted(folder.glob("pytorch_model*.bin"))
        for path in files:
            found |= open_pickle(path)
    if not files:
        raise ConvertError(f"{folder}: neither *.safetensors nor pytorch_model*.bin")
    return {name: lazy for name, lazy in found.items() if not name.endswith("inv_freq")}, files


def _open_safetensors(path: Path) -> dict[str, LazyTensor]:
    tensors = {}
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                part = file.get_slice(name)
                if part.get_dtype() not in DTYPES:
                    raise ConvertError(f"{path}: {name} holds {part.get_dtype()}")
                shape, dtype = tuple(part.get_shape()), DTYPES[part.get_dtype()]
                tensors[name] = LazyTensor(name, shape, dtype, partial(_read, path, name))
    except SafetensorError as error:
        raise ConvertError(f"{path}: not a safetensors file ({error})") from None
    return tensors


def _read(path: Path, name: str) -> torch.Tensor:
    """Opened anew for each tensor: an open file keeps all that was read in memory."""
    with safe_open(path, "pt") as file:
        tensor: torch.Tensor = file.get_tensor(name)
        return tensor.clone()
