"""The conditioned language model: LLaMA, bind network, layer queries and gates in one module.

Parameter names are those of the converter's `Adapter` and of the model's folder, so that a trained
model is exported by the same code that converts a released one. Plain torch.

Shapes: B samples, L tokens, D embedding, C hidden, H heads, q injected layers, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model_ext.bind import BindNetwork
from model_ext.config import BindConfig
from model_ext.convert.llama import LlamaSizes
from model_ext.train.lm.layers import DecoderLayer, Extras, KeyValues, RMSNorm, Rotary

IGNORED = 0  # the label that is no target, as in the released code: id 0 is never learned


class Injection(nn.Module):
    """Layer queries (q, C) and one gate per head of each injected layer; gates start closed."""

    def __init__(self, sizes: LlamaSizes, first_layer: int) -> None:
        super().__init__()
        layers = range(first_layer, sizes.num_hidden_layers)
        self.first_layer = first_layer
        self.query = nn.Parameter(torch.empty(len(layers), sizes.hidden_size).normal_(std=0.02))
        self.gate = nn.ParameterDict(
            {str(i): torch.zeros(1, sizes.num_attention_heads, 1, 1) for i in layers}
        )

    def at(self, layer: int, bound: Tensor) -> tuple[Tensor, Tensor] | None:
        """The source (B, C) and gate of one layer; None before the first injected one."""
        if layer < self.first_layer:
            return None
        return bound + self.query[layer - self.first_layer], self.gate[str(layer)]


class Decoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, sizes: LlamaSizes, extras: Extras, positions: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(sizes.vocab_size, sizes.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(sizes, extras) for _ in range(sizes.num_hidden_layers)
        )
        self.norm = RMSNorm(sizes.hidden_size, sizes.rms_norm_eps)
        theta = float(sizes.rope_parameters["rope_theta"])
        self.rotary = Rotary(sizes.head_dim, theta, positions)


class ConditionedLlama(nn.Module):
    def __init__(
        self,
        sizes: LlamaSizes,
        bind: BindConfig,
        first_layer: int = 0,
        rank: int = 0,
        positions: int = 2048,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.model = Decoder(sizes, Extras(rank), positions)
        self.lm_head = None
        if not sizes.tie_word_embeddings:
            self.lm_head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)
        self.bind = BindNetwork(bind)
        self.injection = Injection(sizes, first_layer)
        self.checkpointing = False  # of activations: less memory, a third more time

    def hidden(
        self,
        ids: Tensor,
        embedding: Tensor,
        start: int = 0,
        past: list[KeyValues] | None = None,
    ) -> Tensor:
        """ids (B, L), embedding (B, D) -> (B, L, C), after the final norm."""
        bound = self.bind(embedding.to(self.bind.proj.weight.dtype))
        x = self.model.embed_tokens(ids)
        for number, layer in enumerate(self.model.layers):
            injected = self.injection.at(number, bound)
            if self.checkpointing and torch.is_grad_enabled() and past is None:
                x = checkpoint(layer, x, self.model.rotary, injected, use_reentrant=False)
            else:
                x = layer(x, self.model.rotary, injected, start, past[number] if past else None)
        out: Tensor = self.model.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V)"""
        head = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, head)

    def forward(self, ids: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
        """The loss: next token, mean over all supervised tokens of the batch.

        Logits are computed for supervised positions only, which changes nothing but the cost.
        A batch without any target has the loss 0, on the graph of every parameter.
        """
        hidden = self.hidden(ids, embedding)[:, :-1]
        targets = labels[:, 1:]
        supervised = targets != IGNORED
        if not supervised.any():
            return 0 * self.logits(hidden[:, :1]).float().mean()
        return F.cross_entropy(self.logits(hidden[supervised]).float(), targets[supervised])

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)
