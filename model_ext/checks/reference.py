"""ImageBind-LLM in plain torch, from a model's folder: slow, without KV cache, in float32.

Only one layer is in memory at a time, so the model may be larger than the memory. The command
`doctor` compares the answers of vLLM's model with those of this reference.

Shapes: P prompts, T tokens of a prompt, C hidden, H heads, d head size, V vocabulary, D embedding.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from model_ext.bind import BindNetwork
from model_ext.config import BindServeConfig
from model_ext.inject import ValueLayer, residual_deltas, value_deltas
from model_ext.weights.safetensors_file import open_shards
from model_ext.weights.tensors import LazyTensor


@dataclass(frozen=True, slots=True)
class Prompt:
    ids: tuple[int, ...]
    embedding: Tensor  # shape (D,)


class Reference:
    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, LazyTensor]) -> None:
        self._llama = LlamaConfig.from_dict(dict(config))
        self._sections = BindServeConfig.from_hf(config)
        self._tensors = tensors

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Open the files. `logprobs` later reads the tensors of one layer at a time."""
        config = json.loads((folder / "config.json").read_bytes())
        return cls(config, open_shards(sorted(folder.glob("*.safetensors"))))

    @torch.inference_mode()
    def logprobs(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        """Return, for each of P prompts, the log-probabilities (T, V) of the next token at each
        position.
        """
        bound = self._bind(torch.stack([prompt.embedding for prompt in prompts]))
        token_table = self._tensors["model.embed_tokens.weight"].read()
        states = [token_table[list(prompt.ids)].float() for prompt in prompts]
        for layer in range(self._llama.num_hidden_layers):
            weights = self._layer(layer)
            before, after = self._deltas(layer, bound, weights)
            states = [
                self._decode(x + input_delta, output_delta, weights)
                for x, input_delta, output_delta in zip(states, before, after, strict=True)
            ]
        tied = self._llama.tie_word_embeddings
        head = (token_table if tied else self._tensors["lm_head.weight"].read()).float()
        norm = self._read("model.norm.weight")
        return [F.linear(self._norm(x, norm), head).log_softmax(-1) for x in states]

    def _read(self, name: str) -> Tensor:
        return self._tensors[name].read().float()

    def _bind(self, embeddings: Tensor) -> Tensor:
        """Apply the bind network: (P, D) to (P, C)."""
        with torch.device("meta"):
            network = BindNetwork(self._sections.bind)
        weights = {name: self._read(f"bind.{name}") for name in network.state_dict()}
        network.load_state_dict(weights, assign=True)
        bound: Tensor = network(embeddings)
        return bound

    def _layer(self, layer: int) -> dict[str, Tensor]:
        """Read the layer's weights. Returns them under names without the prefix
        `model.layers.N.`.
        """
        prefix = f"model.layers.{layer}."
        return {
            name.removeprefix(prefix): self._read(name)
            for name in self._tensors
            if name.startswith(prefix)
        }

    def _deltas(
        self, layer: int, bound: Tensor, weights: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Compute the terms (P, C) to add to the layer's input and to its attention's output."""
        nothing = torch.zeros_like(bound)
        row = layer - self._sections.injection.first_layer
        if not 0 <= row < self._sections.injection.layers:
            return nothing, nothing
        if self._sections.injection.form == "residual":
            gate = self._read("injection.gate")[row : row + 1]
            return residual_deltas(bound, gate)[:, 0], nothing
        ranked = self._sections.injection.v_correction_rank > 0
        value = ValueLayer(
            query=self._read("injection.query")[row],
            gate=self._read("injection.gate")[row],
            v_proj=weights["self_attn.v_proj.weight"],
            o_proj=weights["self_attn.o_proj.weight"],
            v_lora_a=self._read("injection.v_lora_a")[row] if ranked else None,
            v_lora_b=self._read("injection.v_lora_b")[row] if ranked else None,
        )
        return nothing, value_deltas(bound, [value])[:, 0]

    def _decode(self, x: Tensor, delta: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Apply a layer to one prompt: (T, C) to (T, C)."""
        x = x + self._attend(self._norm(x, weights["input_layernorm.weight"]), weights) + delta
        h = self._norm(x, weights["post_attention_layernorm.weight"])
        gated = F.silu(_linear("mlp.gate_proj", h, weights)) * _linear("mlp.up_proj", h, weights)
        return x + _linear("mlp.down_proj", gated, weights)

    def _attend(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        # (T, heads * d) to (heads, T, d)
        query, key, value = (
            _linear(f"self_attn.{name}_proj", x, weights)
            .view(len(x), -1, self._llama.head_dim)
            .transpose(0, 1)
            for name in "qkv"
        )
        positions = torch.arange(len(x))
        cos, sin = LlamaRotaryEmbedding(self._llama)(x, positions[None])
        distance = positions[:, None] - positions
        visible = distance >= 0
        if window := getattr(self._llama, "sliding_window", None):
            visible &= distance < window
        attended = F.scaled_dot_product_attention(
            _rotate(query, cos[0], sin[0]),
            _rotate(key, cos[0], sin[0]),
            value,
            attn_mask=visible,
            enable_gqa=True,
        )
        return _linear("self_attn.o_proj", attended.transpose(0, 1).flatten(1), weights)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self._llama.rms_norm_eps)


def _linear(name: str, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary embeddings to (H, T, d). Dimensions i and i + d/2 of a head form a pair."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
