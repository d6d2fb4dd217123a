"""The conditioned language model: LLaMA, bind network, layer queries and gates in one module.

Parameter names are those of the converter's `Adapter` and of the model directory, so that the
converter's code also exports trained models. Plain torch.

Shapes: B samples, L tokens, D embedding, C hidden, H heads, q injected layers, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model_ext.bind import BindNetwork
from model_ext.config import BindConfig, InjectionForm
from model_ext.inject import residual_deltas
from model_ext.train.lm.layers import DecoderLayer, Extras, KeyValues, RMSNorm, Rotary
from model_ext.weights.llama_sizes import LlamaSizes

# the label of positions without a target; as in the released code, token id 0 is never a target
IGNORED = 0


class Injection(nn.Module):
    """The trained parameters of the injection.

    Value form: a query (C,) for each of q layers, and a gate for each head. Residual form (paper
    eq. 2): one linear gate per layer, and `query` is None. Gates are initially zero.
    """

    def __init__(self, sizes: LlamaSizes, first_layer: int, form: InjectionForm = "value") -> None:
        super().__init__()
        layers = range(first_layer, sizes.num_hidden_layers)
        self.first_layer, self.form = first_layer, form
        shape: tuple[int, ...] = (1,)
        self.query: nn.Parameter | None = None
        if form == "value":
            shape = (1, sizes.num_attention_heads, 1, 1)
            self.query = nn.Parameter(torch.empty(len(layers), sizes.hidden_size).normal_(std=0.02))
        self.gate = nn.ParameterDict({str(i): torch.zeros(shape) for i in layers})

    def at(self, layer: int, bound: Tensor) -> tuple[Tensor, Tensor]:
        """Return the source (B, C) and the gates (1, H, 1, 1) of an injected layer, in the value
        form.
        """
        assert self.query is not None, "the residual form has no queries"
        return bound + self.query[layer - self.first_layer], self.gate[str(layer)]

    def added(self, layer: int, bound: Tensor) -> Tensor:
        """Return the term (B, 1, C) that the residual form adds to every position of the layer's
        input.
        """
        return residual_deltas(bound, self.gate[str(layer)][None])


class LlamaModel(nn.Module):
    """The embedding table, layers and final norm; `ConditionedLlama` runs them."""

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
        form: InjectionForm = "value",
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.model = LlamaModel(sizes, Extras(rank), positions)
        self.lm_head = None
        if not sizes.tie_word_embeddings:
            self.lm_head = nn.Linear(sizes.hidden_size, sizes.vocab_size, bias=False)
        self.bind = BindNetwork(bind)
        self.injection = Injection(sizes, first_layer, form)
        # whether to recompute activations, which saves memory and takes 1/3 more time
        self.checkpointing = False
        # `remembered_lower` stores its outputs here
        self.remembered: dict[bytes, Tensor] | None = None

    def hidden(
        self,
        ids: Tensor,
        embedding: Tensor,
        start: int = 0,
        past: list[KeyValues] | None = None,
    ) -> Tensor:
        """Compute the hidden states (B, L, C) after the final norm, from ids (B, L) and embedding
        (B, D).
        """
        return self.upper(self.lower(ids, start, past), embedding, start, past)

    def lower(self, ids: Tensor, start: int = 0, past: list[KeyValues] | None = None) -> Tensor:
        """Run the layers below the first injected layer. Returns (B, L, C), which depends only on
        the text.
        """
        return self._run(self.model.embed_tokens(ids), None, start, past)

    def upper(
        self,
        x: Tensor,
        embedding: Tensor,
        start: int = 0,
        past: list[KeyValues] | None = None,
    ) -> Tensor:
        """Run the injected layers and the final norm on the output of `lower` (B, L, C)."""
        bound = self.bind(embedding.to(self.bind.proj.weight.dtype))
        out: Tensor = self.model.norm(self._run(x, bound, start, past))
        return out

    def _run(
        self, x: Tensor, bound: Tensor | None, start: int, past: list[KeyValues] | None
    ) -> Tensor:
        """Run the layers below the injected ones if `bound` is None, else the injected layers with
        the output (B, C) of the bind network.
        """
        first = self.injection.first_layer
        numbers = range(first) if bound is None else range(first, len(self.model.layers))
        for number in numbers:
            layer = self.model.layers[number]
            injected = None
            if bound is not None and self.injection.form == "residual":
                x = x + self.injection.added(number, bound).to(x.dtype)
            elif bound is not None:
                injected = self.injection.at(number, bound)
            if self.checkpointing and torch.is_grad_enabled() and past is None:
                x = checkpoint(layer, x, self.model.rotary, injected, use_reentrant=False)
            else:
                x = layer(x, self.model.rotary, injected, start, past[number] if past else None)
        return x

    def remembered_lower(self, ids: Tensor) -> Tensor:
        """Run the layers below the first injected layer, but only once for each text.

        If `remembered` is a dict, stores the outputs in it (on the CPU, by token ids), and uses
        the stored outputs for repeated texts. This is valid only in pretrain, where the lower
        layers do not change.
        """
        if self.remembered is None:
            return self.lower(ids)
        keys = [row.cpu().numpy().tobytes() for row in ids]
        missing = [number for number, key in enumerate(keys) if key not in self.remembered]
        if missing:
            with torch.no_grad():
                for number, row in zip(missing, self.lower(ids[missing]).cpu(), strict=True):
                    self.remembered[keys[number]] = row.clone()
        return torch.stack([self.remembered[key] for key in keys]).to(ids.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Map hidden states (..., C) to logits (..., V)."""
        head = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, head)

    def forward(self, ids: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
        """Compute the mean next-token loss over all targets of the batch: ids and labels (B, L) ->
        ().

        Computes logits only at target positions, which gives the same loss at a lower cost. For a
        batch without targets, the loss and all gradients are 0.
        """
        hidden = self.upper(self.remembered_lower(ids), embedding)[:, :-1]
        targets = labels[:, 1:]
        supervised = targets != IGNORED
        if not supervised.any():
            return 0 * self.logits(hidden[:, :1]).float().mean()
        return F.cross_entropy(self.logits(hidden[supervised]).float(), targets[supervised])

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)
