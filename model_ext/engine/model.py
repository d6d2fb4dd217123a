"""ImageBind-LLM for vLLM: LLaMA whose layers add one row of deltas per request.

`forward` is LLaMA's plus a gathered add per layer; `deltas` turns embeddings into rows when
requests arrive. Which request owns which row is the business of the slot table and the adapters.

Shapes: n new requests, N tokens, C hidden, D embedding, H heads, KV value heads, d head size,
q injected layers.
"""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.distributed import (
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_reduce,
)
from vllm.model_executor.layers.linear import LinearBase
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
from model_ext.engine.lora import RuntimeLoRA
from model_ext.engine.slots import SlotTable
from model_ext.inject import base_value, residual_deltas, value_delta

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
        deltas: torch.Tensor,
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
    """The compiled part. The table is an argument: a buffer's values inductor might freeze."""

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None,
        inputs_embeds: torch.Tensor | None,
        deltas: torch.Tensor,
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
        self.bind = BindNetwork(self.bindserve.bind)
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
            device=vllm_config.device_config.device,
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
            self.slots.deltas,
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

    @torch.inference_mode()
    def deltas(self, embeddings: torch.Tensor, adapters: list[int]) -> torch.Tensor:
        """Embeddings (n, D) to the rows that their requests add (q, n, C). Not this rank's: 0.

        `adapters`: vLLM's id of each request's run-time LoRA, 0 for none.
        """
        dtype = self.slots.deltas.dtype
        bound = self.bind(embeddings.to(dtype))
        if self.bindserve.injection.form == "residual":
            return residual_deltas(bound, self.injection.gate).transpose(0, 1)
        rows = bound.new_zeros(self.slots.deltas.shape[0], *bound.shape)
        lora = RuntimeLoRA.of(self, adapters)
        for layer in self.injected_layers():
            rows[layer.row] = self._value_delta(layer, bound, lora)
        return rows

    def _value_delta(
        self, layer: InjectedDecoderLayer, bound: torch.Tensor, lora: RuntimeLoRA | None
    ) -> torch.Tensor:
        attention, row = layer.self_attn, layer.row
        rank = get_tensor_model_parallel_rank()
        heads = slice(rank * attention.num_heads, (rank + 1) * attention.num_heads)
        project_value = partial(_merged_value, attention)
        if self.bindserve.injection.v_correction_rank:
            project_value = partial(
                base_value,
                project_merged=project_value,
                lora_a=self.injection.v_lora_a[row],
                lora_b=self.injection.v_lora_b[row][_value_rows(attention)],
            )
        return value_delta(
            bound + self.injection.query[row],
            self.injection.gate[row, heads],
            project_value,
            partial(_project_output, attention, lora),
            num_heads=attention.num_heads,
            head_dim=attention.head_dim,
        )


def _merged_value(attention: LlamaAttention, source: torch.Tensor) -> torch.Tensor:
    """This rank's value heads of source (n, C), without bias, through whatever holds the matrix."""
    qkv = _without_bias(attention.qkv_proj, source)
    return qkv[:, attention.q_size + attention.kv_size :]


def _project_output(
    attention: LlamaAttention, lora: RuntimeLoRA | None, heads: torch.Tensor
) -> torch.Tensor:
    """This rank's heads (n, H*d) through the output map, summed over ranks, without bias."""
    output = _without_bias(attention.o_proj, heads)
    if lora is not None:
        lora.add(output, attention.o_proj, heads)
    if get_tensor_model_parallel_world_size() > 1:
        output = tensor_model_parallel_all_reduce(output)
    return output


def _without_bias(linear: LinearBase, x: torch.Tensor) -> torch.Tensor:
    linear = getattr(linear, "base_layer", linear)  # vLLM's wrapper of run-time LoRA
    # The quantisation method, not the weight: that may be packed, or gone.
    return linear.quant_method.apply(linear, x.contiguous(), None)


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
