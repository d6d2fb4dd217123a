"""ImageBind-LLM for vLLM: LLaMA whose layers add one row of deltas per request.

`forward` is LLaMA's plus a gathered add per layer; `deltas` turns embeddings into rows when
requests arrive. Which request owns which row is the business of the slot table and the adapters.

Shapes: n new requests, N tokens, C hidden, D embedding, H heads, KV value heads, d head size,
q injected layers.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.distributed import (
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_reduce,
)
from vllm.model_executor.models.llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
)
from vllm.model_executor.models.utils import extract_layer_index
from vllm.sequence import IntermediateTensors

from model_ext.bind import BindNetwork
from model_ext.config import BindServeConfig, InjectionConfig
from model_ext.engine.adapter import check_adapter
from model_ext.engine.fold import Fold, fold
from model_ext.engine.linear import PackedLinear, plain_weight, without_bias
from model_ext.engine.lora import RuntimeLoRA
from model_ext.engine.slots import SlotTable
from model_ext.inject import base_value, gated_heads, residual_deltas

if TYPE_CHECKING:
    from model_ext.engine.state_v2 import ConditionedModelState


class InjectedDecoderLayer(LlamaDecoderLayer):
    """A LLaMA layer that adds its row of deltas: after attention ("value") or before it all."""

    def __init__(self, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        injection = _config(vllm_config).injection
        row = extract_layer_index(prefix) - injection.first_layer
        self.row = row if 0 <= row < injection.layers else None
        self.form = injection.form

    def forward(
        self,
        positions: torch.Tensor,
        hidden_states: torch.Tensor,
        residual: torch.Tensor | None,
        deltas: list[torch.Tensor],
        slots: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.row is not None and self.form == "residual":
            hidden_states = hidden_states + deltas[self.row].index_select(0, slots)
        if residual is None:
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
        else:
            hidden_states, residual = self.input_layernorm(hidden_states, residual)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
        if self.row is not None and self.form == "value":
            hidden_states = hidden_states + deltas[self.row].index_select(0, slots)
        hidden_states, residual = self.post_attention_layernorm(hidden_states, residual)
        return self.mlp(hidden_states), residual


@support_torch_compile(
    dynamic_arg_dims={
        "input_ids": {0: "b"},
        "positions": {0: "b"},
        "intermediate_tensors": {0: "b"},
        "inputs_embeds": {0: "b"},
        "slots": {0: "b"},
    }
)
class InjectedLlamaModel(LlamaModel):
    """The compiled part. The table is an argument: a buffer's values inductor might freeze.

    One tensor (R, C) a layer, not a table of all: as parts of one tensor, at distances that are
    constants, every layer would need a kernel of its own, and a start three times as many.
    """

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None,
        inputs_embeds: torch.Tensor | None,
        deltas: list[torch.Tensor],
        slots: torch.Tensor,
    ) -> torch.Tensor | IntermediateTensors | tuple[torch.Tensor, list[torch.Tensor]]:
        return super().forward(
            input_ids, positions, intermediate_tensors, inputs_embeds, deltas=deltas, slots=slots
        )


class Injection(nn.Module):
    """The injection's own weights, named as in the model's folder. Replicated on every rank."""

    def __init__(self, config: InjectionConfig, heads: int, hidden: int, value_width: int) -> None:
        super().__init__()
        layers, rank = config.layers, config.v_correction_rank
        gates = heads if config.form == "value" else 1
        self.gate = _weight(layers, gates, dtype=torch.float32)  # before tanh in the value form
        if config.form == "value":
            self.query = _weight(layers, hidden)
        if rank:
            self.v_lora_a = _weight(layers, rank, hidden)
            self.v_lora_b = _weight(layers, value_width, rank)


class ImageBindLLMForCausalLM(LlamaForCausalLM):
    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        check_adapter(vllm_config)
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=InjectedDecoderLayer)
        self.bindserve = _config(vllm_config)
        injection = self.bindserve.injection
        self.bind = BindNetwork(self.bindserve.bind, linear=PackedLinear)
        self.device = vllm_config.device_config.device
        self.folded: Fold | None = None  # all injected layers' maps at once
        attention = [layer.self_attn for layer in self.injected_layers()]
        if attention:
            heads, kv_heads, head_dim = (
                attention[0].total_num_heads,
                attention[0].total_num_kv_heads,
                attention[0].head_dim,
            )
            self.injection = Injection(
                injection, heads, self.config.hidden_size, kv_heads * head_dim
            )
        scheduler = vllm_config.scheduler_config
        self.slots = SlotTable(
            layers=injection.layers,
            rows=scheduler.max_num_seqs,
            hidden=self.config.hidden_size,
            tokens=scheduler.max_num_batched_tokens,
            dtype=vllm_config.model_config.dtype,
            device=self.device,
        )

    def _init_model(
        self,
        vllm_config: VllmConfig,
        prefix: str = "",
        layer_type: type[nn.Module] = InjectedDecoderLayer,
    ) -> nn.Module:
        return InjectedLlamaModel(vllm_config=vllm_config, prefix=prefix, layer_type=layer_type)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        return self.model(
            input_ids,
            positions,
            intermediate_tensors,
            inputs_embeds,
            self.slots.layers,
            self.slots.slot_of_token[: positions.shape[0]],
        )

    @staticmethod
    def get_model_state_cls() -> type["ConditionedModelState"]:
        """vLLM's hook of Model Runner V2."""
        from model_ext.engine.state_v2 import ConditionedModelState

        return ConditionedModelState

    @property
    def embedding_dim(self) -> int:
        """D, the length of a conditioning embedding."""
        return self.bindserve.bind.in_features

    def injected_layers(self) -> list[InjectedDecoderLayer]:
        """The injected layers that live on this pipeline rank, first to last."""
        layers = self.model.layers[self.model.start_layer : self.model.end_layer]
        return [layer for layer in layers if layer.row is not None]

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        loaded: set[str] = super().load_weights(weights)
        if self.bindserve.injection.form == "value" and self.device.type == "cpu":
            self.folded = fold(self.injected_layers(), self.injection)
        return loaded

    @torch.inference_mode()
    def deltas(self, embeddings: torch.Tensor, adapters: list[int]) -> torch.Tensor:
        """Embeddings (n, D) to the rows that their requests add (q, n, C). Not this rank's: 0.

        `adapters`: vLLM's id of each request's run-time LoRA, 0 for none.
        """
        bound = self.bind(embeddings.to(self.slots.deltas.dtype))
        if self.bindserve.injection.form == "residual":
            return residual_deltas(bound, self.injection.gate).transpose(0, 1)
        rows = bound.new_zeros(self.slots.deltas.shape[0], *bound.shape)
        layers = self.injected_layers()
        if not layers:  # all of them live on other pipeline ranks
            return rows
        first = max(0, self.model.start_layer - self.bindserve.injection.first_layer)
        here = slice(first, first + len(layers))
        lora = RuntimeLoRA.of(self, adapters)
        if self.folded is not None and lora is None:
            rows[here] = self.folded(bound)
            return rows
        for layer, row, x in zip(layers, rows[here], self._heads(layers, here, bound), strict=True):
            output = layer.self_attn.o_proj
            row.copy_(without_bias(output, x))
            if lora is not None:
                lora.add(row, output, x)
        if get_tensor_model_parallel_world_size() > 1:
            rows = tensor_model_parallel_all_reduce(rows)
        return rows

    def _heads(
        self, layers: list[InjectedDecoderLayer], here: slice, bound: torch.Tensor
    ) -> torch.Tensor:
        """What this rank's heads of the layers gain (q, n, H*d), from bound vectors (n, C)."""
        attention = layers[0].self_attn
        source = bound + self.injection.query[here, None]  # (q, n, C)
        pairs = zip(layers, source, strict=True)
        values = torch.stack([_value(layer, x) for layer, x in pairs])
        if self.bindserve.injection.v_correction_rank:
            lora_b = self.injection.v_lora_b[here, _value_rows(attention)]
            values = base_value(source, values, self.injection.v_lora_a[here], lora_b)
        first = get_tensor_model_parallel_rank() * attention.num_heads
        gate = self.injection.gate[here, None, first : first + attention.num_heads]
        return gated_heads(values, gate, attention.head_dim)


def _value(layer: InjectedDecoderLayer, source: torch.Tensor) -> torch.Tensor:
    """This rank's value heads (n, KV*d) of source (n, C), without bias."""
    attention = layer.self_attn
    plain = plain_weight(attention.qkv_proj)
    first = attention.q_size + attention.kv_size  # queries and keys come before values
    if plain is not None:
        return F.linear(source, plain[first:])
    return without_bias(attention.qkv_proj, source)[:, first:]


def _value_rows(attention: LlamaAttention) -> slice:
    """The rows of the whole value matrix that this rank holds. Too few heads are held twice."""
    ranks = get_tensor_model_parallel_world_size()
    copies = max(1, ranks // attention.total_num_kv_heads)
    first = get_tensor_model_parallel_rank() // copies * attention.kv_size
    return slice(first, first + attention.kv_size)


def _config(vllm_config: VllmConfig) -> BindServeConfig:
    return BindServeConfig.from_hf(vllm_config.model_config.hf_config.to_dict())


def _weight(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=dtype), requires_grad=False)
