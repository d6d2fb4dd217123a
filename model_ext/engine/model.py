"""ImageBind-LLM for vLLM: a LLaMA whose layers add one vector (a row of deltas) per request.

`forward` is that of LLaMA, plus a look-up and an addition in each layer.

`deltas` computes the rows from embeddings when requests arrive. The slot table and the runner
adapters assign rows to requests.

Shapes: n new requests, N tokens, C hidden, D embedding, R slots, q injected layers.
"""

from collections.abc import Iterable

import torch
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.config.compilation import CUDAGraphMode
from vllm.logger import init_logger
from vllm.model_executor.models.llama import LlamaDecoderLayer, LlamaForCausalLM, LlamaModel
from vllm.model_executor.models.utils import extract_layer_index
from vllm.sequence import IntermediateTensors

from model_ext.bind import BindNetwork
from model_ext.config import BindServeConfig
from model_ext.engine.adapter import check_adapter, model_state_class
from model_ext.engine.arrival import Arrival
from model_ext.engine.device import Device
from model_ext.engine.early_rows import MAX_EARLY_ROWS
from model_ext.engine.fold import Fold, fold
from model_ext.engine.injection import Injection
from model_ext.engine.linear import PackedLinear
from model_ext.engine.lora import RuntimeLoRA
from model_ext.engine.settings import ArrivalSettings
from model_ext.engine.slots import SlotTable
from model_ext.engine.value_form import layer_rows, plain_layers
from model_ext.inject import ValueLayer, residual_deltas

logger = init_logger(f"vllm.{__name__}")  # vLLM prints only loggers named vllm.*


class InjectedDecoderLayer(LlamaDecoderLayer):
    """A LLaMA layer that adds rows of deltas: after attention ("value") or to its input."""

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
        if self.row is not None and self.form == "value":
            # In the released form, the row is added to attention's output, which is then added to
            # the residual. Adding the row to the residual first gives the same sum. For large
            # batches it takes less time on a GPU (docs/decisions/0002).
            residual = residual + deltas[self.row].index_select(0, slots)
        hidden_states = self.self_attn(positions=positions, hidden_states=hidden_states)
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
    """The part of the model that torch.compile compiles.

    The slot table is an argument, because inductor may treat the values of a buffer as constants.
    The table has a separate tensor (R + 1, C) for each layer. If one tensor had the rows of all
    layers, each layer's offset would be a constant in its kernel, and inductor would compile three
    times as many kernels.
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


class ImageBindLLMForCausalLM(LlamaForCausalLM):
    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        check_adapter(vllm_config)
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=InjectedDecoderLayer)
        self.vllm_config = vllm_config
        self.settings = ArrivalSettings.of(vllm_config.additional_config)
        self.bindserve = _config(vllm_config)
        injection = self.bindserve.injection
        self.bind = BindNetwork(self.bindserve.bind, linear=PackedLinear)
        self._device = Device.of(vllm_config.device_config.device)
        self.folded: Fold | None = None  # the folded projections of all injected layers
        if layers := self.injected_layers():
            attention = layers[0].self_attn
            value_width = attention.total_num_kv_heads * attention.head_dim
            self.injection = Injection(
                injection, attention.total_num_heads, self.config.hidden_size, value_width
            )
        scheduler = vllm_config.scheduler_config
        early = MAX_EARLY_ROWS if vllm_config.use_v2_model_runner else 0
        self.slots = SlotTable(
            layers=injection.layers,
            rows=scheduler.max_num_seqs + early,
            hidden=self.config.hidden_size,
            tokens=scheduler.max_num_batched_tokens,
            dtype=vllm_config.model_config.dtype,
            device=self._device,
        )
        self.arrival = Arrival(self.slots, self.deltas, self.embedding_dim, self._device)

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
    def get_model_state_cls() -> type:
        """Return the class that passes embeddings from vLLM's Model Runner V2 to the model."""
        return model_state_class()

    @property
    def embedding_dim(self) -> int:
        """D, the length of a conditioning embedding."""
        return self.bindserve.bind.in_features

    def injected_layers(self) -> list[InjectedDecoderLayer]:
        """Return the injected layers of this pipeline rank, in order."""
        layers = self.model.layers[self.model.start_layer : self.model.end_layer]
        return [layer for layer in layers if layer.row is not None]

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        loaded: set[str] = super().load_weights(weights)
        if self._device.torch.type == "cpu":  # fold the matrices now, before vLLM packs them
            self._fold()
        return loaded

    def process_weights_after_loading(self) -> None:
        """Fold projections and capture graphs. vLLM calls this method when all weights are final.

        Afterwards, vLLM measures the free memory, so that it takes folded projections and graphs
        into account. Models with dummy weights, for which vLLM does not call `load_weights`, are
        folded here.
        """
        if self._device.torch.type != "cpu":
            self._fold()
        if self._may_capture():
            self.arrival.capture()
            logger.info("captured CUDA graphs for the arrival of requests")

    def _fold(self) -> None:
        if self.settings.arrival == "layers":
            return
        if layers := self._plain_layers():
            self.folded = fold(layers, PackedLinear.of)
            logger.info("folded the maps of %d injected layers", len(layers))
        elif self.settings.arrival == "folded":
            raise ValueError(
                "additional_config.bindserve.arrival is 'folded', but this model has no layers "
                "whose maps can be folded (residual form, quantised, offloaded, tensor parallel). "
                "Use 'auto'."
            )

    def _plain_layers(self) -> list[ValueLayer] | None:
        layers = self.injected_layers()
        return plain_layers(layers, self.injection, self._device.torch) if layers else None

    def _may_capture(self) -> bool:
        """Whether `arrival` can capture graphs: on a single GPU, if the weights keep their
        addresses.
        """
        config = self.vllm_config
        return (
            self._device.captures
            and self.settings.graphs
            and config.compilation_config.cudagraph_mode != CUDAGraphMode.NONE
            and config.parallel_config.world_size == 1
            # Not in vLLM's sleep mode, whose allocator would give a graph's memory to other
            # tensors.
            and not config.model_config.enable_cumem_allocator
            and (self.bindserve.injection.form == "residual" or self._plain_layers() is not None)
        )

    @torch.inference_mode()
    def deltas(self, embeddings: torch.Tensor, adapters: list[int]) -> torch.Tensor:
        """Compute the rows (q, n, C) of requests from their embeddings (n, D).

        Rows of layers on other pipeline ranks are 0. `adapters`: vLLM's id of each request's LoRA
        adapter, 0 for none.
        """
        bound: torch.Tensor = self.bind(embeddings.to(self.slots.deltas.dtype))
        layers = self.injected_layers()
        if not layers:
            return bound.new_zeros(self.bindserve.injection.layers, *bound.shape)
        if self.bindserve.injection.form == "residual":
            return residual_deltas(bound, self.injection.gate).transpose(0, 1)
        rows = self._value_rows(layers, bound, adapters)
        if len(layers) == self.bindserve.injection.layers:
            return rows
        everywhere = bound.new_zeros(self.bindserve.injection.layers, *bound.shape)
        first = max(0, self.model.start_layer - self.bindserve.injection.first_layer)
        everywhere[first : first + len(layers)] = rows
        return everywhere

    def _value_rows(
        self, layers: list[InjectedDecoderLayer], bound: torch.Tensor, adapters: list[int]
    ) -> torch.Tensor:
        """Compute the rows (layers, n, C) of this pipeline rank's layers, in the value form."""
        lora = RuntimeLoRA.of(self, adapters, self._device)
        if self.folded is not None and lora is None:
            rows: torch.Tensor = self.folded(bound)
            return rows
        return layer_rows(layers, self.injection, bound, lora)


def _config(vllm_config: VllmConfig) -> BindServeConfig:
    return BindServeConfig.from_hf(vllm_config.model_config.hf_config.to_dict())
