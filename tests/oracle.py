"""A slow, simple ImageBind-LLM, which recomputes every position for every token.

It reads a converted model's folder, and computes in float32. As the model is defined, it adds the
injected term to the heads at every position, before the output projection. The tested code instead
adds a precomputed term after that projection.

Shapes: T tokens, C hidden, H heads, KV value heads, d head size, D embedding, q injected layers.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Oracle:
    config: dict[str, Any]  # the content of config.json
    weights: dict[str, Tensor]

    @classmethod
    def from_folder(cls, folder: Path) -> "Oracle":
        weights: dict[str, Tensor] = {}
        for file in folder.glob("*.safetensors"):
            weights |= {name: tensor.float() for name, tensor in load_file(file).items()}
        return cls(json.loads((folder / "config.json").read_text()), weights)

    def in_float64(self) -> "Oracle":
        """Return the same model with float64 weights, whose rounding errors are negligible."""
        return Oracle(self.config, {name: tensor.double() for name, tensor in self.weights.items()})

    def greedy(self, ids: list[int], embedding: Tensor, steps: int) -> tuple[list[int], Tensor]:
        """Generate greedily. Returns the ids before EOS, and the logits (V,) of the last step."""
        written: list[int] = []
        last = torch.empty(0)
        for _ in range(steps):
            logits = self.logits(ids + written, embedding)[-1]
            chosen = int(logits.argmax())
            if chosen == self.config["eos_token_id"]:
                break
            written.append(chosen)
            last = logits
        return written, last

    def logits(
        self, ids: list[int], embedding: Tensor | None = None, deltas: Tensor | None = None
    ) -> Tensor:
        """Compute logits (T, V) of T tokens.

        Give an embedding (D,), precomputed terms (q, C) that are added to the layers as in the
        engine, or neither.
        """
        first = self.config["injection"]["first_layer"]
        residual = self.config["injection"]["form"] == "residual"
        bound = None if embedding is None else self.bind(embedding)
        x = self.weights["model.embed_tokens.weight"][ids]
        for layer in range(self.config["num_hidden_layers"]):
            injected = layer >= first
            if residual and injected:
                x = x + self.residual(layer, bound, deltas)
            normed = self.norm(x, f"model.layers.{layer}.input_layernorm.weight")
            attended = self.attention(layer, normed, bound if injected and not residual else None)
            if deltas is not None and injected and not residual:
                attended = attended + deltas[layer - first]
            x = x + attended
            normed = self.norm(x, f"model.layers.{layer}.post_attention_layernorm.weight")
            x = x + self.feed_forward(layer, normed)
        x = self.norm(x, "model.norm.weight")
        tied = self.config["tie_word_embeddings"]
        return x @ self.weights["model.embed_tokens.weight" if tied else "lm_head.weight"].T

    def bind(self, embedding: Tensor) -> Tensor:
        """(D,) to (C,)."""
        config = self.config["bind"]
        x = self.linear("bind.proj", embedding)
        for j in range(config["blocks"]):
            block = f"bind.blocks.{j}"
            weight = self.weights[f"{block}.norm.weight"]
            if config["norm"] == "layernorm":
                centred = x - x.mean()
                h = centred / torch.sqrt(centred.pow(2).mean() + config["norm_eps"]) * weight
                h = h + self.weights[f"{block}.norm.bias"]
            else:
                h = x / torch.sqrt(x.pow(2).mean() + config["norm_eps"]) * weight
            gated = F.silu(self.linear(f"{block}.gate_proj", h))
            x = x + self.linear(f"{block}.down_proj", gated * self.linear(f"{block}.up_proj", h))
        return x

    def attention(self, layer: int, x: Tensor, bound: Tensor | None) -> Tensor:
        """Compute attention: (T, C) to (T, C)."""
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        prefix = f"model.layers.{layer}.self_attn"
        query = self.rotate(self.split(self.linear(f"{prefix}.q_proj", x), heads))
        key = self.rotate(self.split(self.linear(f"{prefix}.k_proj", x), kv_heads))
        value = self.split(self.linear(f"{prefix}.v_proj", x), kv_heads)
        added = None if bound is None else self.injected_heads(layer, bound)
        hidden = torch.full((len(x), len(x)), -math.inf, dtype=x.dtype)
        unseen = hidden.triu(1)  # A token does not attend to later positions.
        if window := self.config.get("sliding_window"):
            # A token does not attend to positions before the window.
            unseen = unseen + hidden.tril(-window)
        outputs = []
        for head in range(heads):
            shared = head // (heads // kv_heads)
            scores = query[:, head] @ key[:, shared].T / math.sqrt(self.config["head_dim"])
            output = torch.softmax(scores + unseen, dim=-1) @ value[:, shared]
            outputs.append(output if added is None else output + added[head])
        return self.linear(f"{prefix}.o_proj", torch.cat(outputs, dim=-1))

    def injected_heads(self, layer: int, bound: Tensor) -> Tensor:
        """Compute the injected term (H, d), which is the same for every position."""
        j = layer - self.config["injection"]["first_layer"]
        weight = self.weights[f"model.layers.{layer}.self_attn.v_proj.weight"]
        if self.config["injection"]["v_correction_rank"]:
            weight = (
                weight
                - self.weights["injection.v_lora_b"][j] @ (self.weights["injection.v_lora_a"][j])
            )
        value = weight @ (bound + self.weights["injection.query"][j])
        heads, kv_heads = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        size = self.config["head_dim"]
        terms = []
        for head in range(heads):
            shared = head // (heads // kv_heads)
            gate = torch.tanh(self.weights["injection.gate"][j, head])
            terms.append(gate * value[shared * size : (shared + 1) * size])
        return torch.stack(terms)

    def residual(self, layer: int, bound: Tensor | None, deltas: Tensor | None) -> Tensor:
        """Compute the term (C,) that the injection of the paper adds to the input of a layer."""
        j = layer - self.config["injection"]["first_layer"]
        if bound is not None:
            return bound * self.weights["injection.gate"][j]
        return torch.zeros(()) if deltas is None else deltas[j]

    def feed_forward(self, layer: int, x: Tensor) -> Tensor:
        prefix = f"model.layers.{layer}.mlp"
        gated = F.silu(self.linear(f"{prefix}.gate_proj", x))
        return self.linear(f"{prefix}.down_proj", gated * self.linear(f"{prefix}.up_proj", x))

    def split(self, x: Tensor, heads: int) -> Tensor:
        """Split into heads: (T, heads * d) to (T, heads, d)."""
        return x.view(len(x), heads, self.config["head_dim"])

    def rotate(self, x: Tensor) -> Tensor:
        """Apply rotary embeddings to (T, heads, d). The two halves of a head form the pairs."""
        half = x.shape[-1] // 2
        positions = torch.arange(len(x), dtype=x.dtype)
        frequencies = torch.tensor(self.frequencies(half), dtype=x.dtype)
        angle = torch.outer(positions, frequencies)[:, None, :]  # shape (T, 1, d/2)
        first, second = x[..., :half], x[..., half:]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    def frequencies(self, half: int) -> list[float]:
        """Return d/2 angles in radians: the rotation of each pair of dimensions per position."""
        rope = self.config["rope_parameters"]
        turns = [rope["rope_theta"] ** -(i / half) for i in range(half)]
        if rope["rope_type"] == "llama3":
            turns = [stretched(turn, rope) for turn in turns]
        else:
            assert rope["rope_type"] == "default", rope
        return turns

    def norm(self, x: Tensor, name: str) -> Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return x / torch.sqrt(variance + self.config["rms_norm_eps"]) * self.weights[name]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))


def stretched(turn: float, rope: dict[str, Any]) -> float:
    """Scale an angle as LLaMA 3.1 does.

    Fast rotations are unchanged, slow rotations are divided by the factor, and those between are
    interpolated. How often a rotation turns within the original context length determines whether
    it is fast or slow.
    """
    turns = turn * rope["original_max_position_embeddings"] / (2 * math.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    kept = min(max((turns - low) / (high - low), 0), 1)
    return kept * turn + (1 - kept) * turn / rope["factor"]
