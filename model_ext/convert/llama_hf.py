"""Read a LLaMA in Hugging Face's layout: config.json and safetensors (or .bin) files.

Llama 2 and 3, SmolLM2 and Mistral differ from LLaMA only in sizes, so this module reads them too.
"""

from pathlib import Path

from transformers import LlamaConfig, MistralConfig

from model_ext.convert.llama import LLAMA_ROWS, Llama
from model_ext.convert.pickles import open_pickle
from model_ext.weights.errors import ConvertError
from model_ext.weights.json_file import read_json
from model_ext.weights.llama_sizes import LlamaSizes
from model_ext.weights.safetensors_file import open_shards
from model_ext.weights.table import Row, check, expand
from model_ext.weights.tensors import LazyTensor

ROWS = tuple(Row(row.target, row.shape, row.target) for row in LLAMA_ROWS)
CONFIGS = {"LlamaForCausalLM": LlamaConfig, "MistralForCausalLM": MistralConfig}


def open_hf(folder: Path) -> Llama:
    """Open the folder. Raises ConvertError: when a file, key or tensor is wrong."""
    sizes = _sizes(folder)
    stored, files = _open_files(folder)
    rows = tuple(row for row in ROWS if not (sizes.tie_word_embeddings and "lm_head" in row.target))
    if sizes.tie_word_embeddings:
        stored.pop("lm_head.weight", None)  # with tied embeddings, this tensor equals the embedding
    check(expand(rows, sizes.letters), stored, folder)
    tensors = {name: stored[name] for name in expand(rows, sizes.letters)}
    return Llama(sizes, tensors, (folder / "config.json", *files))


def _sizes(folder: Path) -> LlamaSizes:
    """Read config.json through `transformers`, which adds defaults and translates older keys."""
    path = folder / "config.json"
    document = read_json(path)
    architecture, *more = document.get("architectures") or [None]
    if more or architecture not in CONFIGS:
        raise ConvertError(
            f"{path}: architectures is {document.get('architectures')}; "
            f"supported: {', '.join(CONFIGS)}"
        )
    try:
        config = CONFIGS[architecture].from_dict(document)
    except (TypeError, ValueError) as error:
        raise ConvertError(f"{path}: {error}") from None
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        raise ConvertError(f"{path}: a base with biases is not supported")
    if config.hidden_act != "silu":
        raise ConvertError(f"{path}: hidden_act {config.hidden_act!r} is not supported, only silu")
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
        sliding_window=getattr(config, "sliding_window", None),
    )


def _open_files(folder: Path) -> tuple[dict[str, LazyTensor], list[Path]]:
    # Skip consolidated*: Mistral's folders contain a second copy of the weights in another layout.
    files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
    stored = open_shards(files)
    if not files:
        files = sorted(folder.glob("pytorch_model*.bin"))
        for path in files:
            stored |= open_pickle(path)
    if not files:
        raise ConvertError(f"{folder}: has neither *.safetensors nor pytorch_model*.bin")
    return {name: lazy for name, lazy in stored.items() if not name.endswith("inv_freq")}, files
