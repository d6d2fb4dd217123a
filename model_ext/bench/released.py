"""The released generation loop in plain torch: it answers one request at a time, and every layer
computes the injected heads again in every step. throughput.py compares the engine with this loop.
The loop gives the results of the released code, with a few simple optimisations: a key-value cache
of the needed size, no autograd, torch's fused attention, and LoRA merged into the weights.

Shapes: T tokens of a step, P tokens of the past, C hidden, H heads, KV value heads, d head size, D
embedding, q injected layers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from model_ext.bind import BindNetwork
from model_ext.config import BindServeConfig

Cache = list[tuple[Tensor, Tensor]]  # keys and values of each layer, each (1, KV, length, d)


@dataclass(frozen=True, slots=True)
class ReleasedLayer:
    """The weights of one layer and, if the layer is injected, of its injection."""

    input_norm: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    middle_norm: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    injection: "ReleasedInjection | None"


@dataclass(frozen=True, slots=True)
class ReleasedInjection:
    query: Tensor  # The layer's query (C,).
    gate: Tensor  # The layer's gates (H, 1, 1), after tanh.
    value: Tensor  # The layer's value matrix (KV*d, C), without LoRA.


class ReleasedLoop:
    def __init__(
        self, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, injected: bool = True
    ) -> None:
        """The loop runs on the device and in the dtype of the weights. Without `injected`, the loop
        runs a plain LLaMA.
        """
        self.llama = LlamaConfig.from_dict(dict(config))
        self.embedding = weights["model.embed_tokens.weight"]
        self.final_norm = weights["model.norm.weight"]
        self.head = weights["lm_head.weight"]
        self.rotary = LlamaRotaryEmbedding(self.llama).to(self.embedding.device)
        bindserve = BindServeConfig.from_hf(config) if injected else None
        self.layers = [_layer(i, weights, bindserve) for i in range(self.llama.num_hidden_layers)]
        self.bind = _bind(weights, bindserve) if bindserve else None

    @classmethod
    def from_folder(cls, folder: Path, *, injected: bool = True) -> Self:
        config = json.loads((folder / "config.json").read_text())
        return cls(config, load_file(folder / "model.safetensors"), injected=injected)

    @torch.inference_mode()
    def generate(
        self, ids: Sequence[int], steps: int, embedding: Tensor | None = None
    ) -> list[int]:
        """Generate token ids greedily. An end-of-sequence token does not stop the loop.
        `embedding`: (D,), only with injection.
        """
        device, bound = self.embedding.device, None
        if self.bind and embedding is not None:
            bound = self.bind(embedding[None].to(self.embedding))
        length = len(ids) + steps
        cos, sin = self.rotary(self.embedding, torch.arange(length, device=device)[None])
        cache = self._cache(length)
        step, past, written = torch.tensor(ids, device=device), 0, list[int]()
        for _ in range(steps):
            here = slice(past, past + len(step))
            logits = self._forward(step, past, cos[:, None, here], sin[:, None, here], cache, bound)
            past += len(step)
            step = logits.argmax(-1)[None]
            written.append(int(step))
        return written

    def _cache(self, length: int) -> Cache:
        shape = (1, self.llama.num_key_value_heads, length, self.llama.head_dim)
        zeros = self.embedding.new_zeros
        return [(zeros(shape), zeros(shape)) for _ in self.layers]

    def _forward(
        self, ids: Tensor, past: int, cos: Tensor, sin: Tensor, cache: Cache, bound: Tensor | None
    ) -> Tensor:
        """Return logits (V,) for the token after ids (T,)."""
        x = self.embedding[ids]
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            h = self._norm(x, layer.input_norm)
            x = x + self._attend(layer, h, past, cos, sin, keys, values, bound)
            h = self._norm(x, layer.middle_norm)
            gated = F.silu(F.linear(h, layer.gate)) * F.linear(h, layer.up)
            x = x + F.linear(gated, layer.down)
        return F.linear(self._norm(x[-1], self.final_norm), self.head)

    def _attend(
        self,
        layer: ReleasedLayer,
        x: Tensor,
        past: int,
        cos: Tensor,
        sin: Tensor,
        keys: Tensor,
        values: Tensor,
        bound: Tensor | None,
    ) -> Tensor:
        """Run a layer's attention, (T, C) -> (T, C). Writes T new rows to the layer's key cache and
        value cache. Afterwards, the first P + T rows of both caches are valid.
        """
        end = past + len(x)
        query = _rotate(self._split(F.linear(x, layer.query)), cos, sin)
        keys[:, :, past:end] = _rotate(self._split(F.linear(x, layer.key)), cos, sin)
        values[:, :, past:end] = self._split(F.linear(x, layer.value))
        heads = F.scaled_dot_product_attention(
            query,
            keys[:, :, :end],
            values[:, :, :end],
            is_causal=past == 0,
            enable_gqa=True,
        )
        if layer.injection is not None and bound is not None:
            source = bound + layer.injection.query
            value = self._split(F.linear(source, layer.injection.value))  # shape (1, KV, 1, d)
            value = value.repeat_interleave(heads.shape[1] // value.shape[1], dim=1)
            heads = heads + layer.injection.gate * value
        return F.linear(heads.transpose(1, 2).flatten(2)[0], layer.output)

    def _split(self, x: Tensor) -> Tensor:
        """Reshape (T, heads * d) to (1, heads, T, d)."""
        return x.view(1, len(x), -1, self.llama.head_dim).transpose(1, 2)

    def _norm(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, weight.shape, weight, self.llama.rms_norm_eps)


def _layer(
    number: int, weights: Mapping[str, Tensor], bindserve: BindServeConfig | None
) -> ReleasedLayer:
    def weight(name: str) -> Tensor:
        return weights[f"model.layers.{number}.{name}.weight"]

    return ReleasedLayer(
        input_norm=weight("input_layernorm"),
        query=weight("self_attn.q_proj"),
        key=weight("self_attn.k_proj"),
        value=weight("self_attn.v_proj"),
        output=weight("self_attn.o_proj"),
        middle_norm=weight("post_attention_layernorm"),
        gate=weight("mlp.gate_proj"),
        up=weight("mlp.up_proj"),
        down=weight("mlp.down_proj"),
        injection=_injection(number, weights, bindserve) if bindserve else None,
    )


def _injection(
    number: int, weights: Mapping[str, Tensor], bindserve: BindServeConfig
) -> ReleasedInjection | None:
    row = number - bindserve.injection.first_layer
    if not 0 <= row < bindserve.injection.layers:
        return None
    value = weights[f"model.layers.{number}.self_attn.v_proj.weight"]
    if bindserve.injection.v_correction_rank:
        value = value - weights["injection.v_lora_b"][row] @ weights["injection.v_lora_a"][row]
    return ReleasedInjection(
        query=weights["injection.query"][row],
        gate=torch.tanh(weights["injection.gate"][row])[:, None, None],
        value=value,
    )


def _bind(weights: Mapping[str, Tensor], bindserve: BindServeConfig) -> BindNetwork:
    with torch.device("meta"):
        network = BindNetwork(bindserve.bind)
    tensors = {name: weights[f"bind.{name}"] for name in network.state_dict()}
    network.load_state_dict(tensors, assign=True)
    return network.eval()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary embeddings: rotate channel i of a head's first half with channel i of its second
    half. x (1, heads, T, d), cos and sin (1, 1, T, d).
    """
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
