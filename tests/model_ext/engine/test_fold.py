"""Folded matrices compute the same rows as the value and output matrices of the layers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from vllm.model_executor.layers.linear import UnquantizedLinearMethod

from model_ext.engine import value_form
from model_ext.engine.device import Device
from model_ext.engine.fold import Fold, fold
from model_ext.engine.linear import PackedLinear, plain_weight, without_bias
from model_ext.engine.lora import RuntimeLoRA
from model_ext.engine.value_form import layer_rows, plain_layers, value
from model_ext.inject import ValueLayer, value_deltas

C, HEADS, KV, SIZE, LAYERS, RANK = 64, 4, 2, 16, 3, 2


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(value_form, "get_tensor_model_parallel_world_size", lambda: 1)
    monkeypatch.setattr(value_form, "get_tensor_model_parallel_rank", lambda: 0)


def linear(rows: int, columns: int) -> Any:
    """A fake of a linear layer of vLLM, in its state after loading and before packing."""
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(rows, columns) / columns**0.5, requires_grad=False)
    module.bias = None
    module.quant_method = UnquantizedLinearMethod()
    return module


def layer(row: int, kv: int = KV) -> Any:
    attention = SimpleNamespace(
        qkv_proj=linear((HEADS + 2 * kv) * SIZE, C),
        o_proj=linear(C, HEADS * SIZE),
        q_size=HEADS * SIZE,
        kv_size=kv * SIZE,
        head_dim=SIZE,
        num_heads=HEADS,
        total_num_kv_heads=kv,
    )
    return SimpleNamespace(self_attn=attention, row=row)


def injection(rank: int, kv: int = KV) -> Any:
    lora_a = torch.randn(LAYERS, rank, C) / C**0.5 if rank else None
    lora_b = torch.randn(LAYERS, kv * SIZE, rank) if rank else None
    return SimpleNamespace(
        gate=torch.randn(LAYERS, HEADS),
        query=torch.randn(LAYERS, C),
        v_lora_a=lora_a,
        v_lora_b=lora_b,
    )


def folded_maps(layers: list[Any], weights: Any) -> Fold | None:
    plain = plain_layers(layers, weights, torch.device("cpu"))
    return None if plain is None else fold(plain, PackedLinear.of)


def expected(bound: torch.Tensor, layers: list[Any], weights: Any) -> torch.Tensor:
    """Compute the expected rows (n, q, C) from the matrices of each layer."""
    lora = weights.v_lora_a is not None
    return value_deltas(
        bound,
        [
            ValueLayer(
                query=weights.query[each.row],
                gate=weights.gate[each.row],
                v_proj=each.self_attn.qkv_proj.weight[
                    each.self_attn.q_size + each.self_attn.kv_size :
                ],
                o_proj=each.self_attn.o_proj.weight,
                v_lora_a=weights.v_lora_a[each.row] if lora else None,
                v_lora_b=weights.v_lora_b[each.row] if lora else None,
            )
            for each in layers
        ],
    )


def pack(linear: Any) -> None:
    linear.quant_method.process_weights_after_loading(linear)


@pytest.mark.parametrize("kv", [1, 2, 4])
@pytest.mark.parametrize("rank", [0, RANK])
@pytest.mark.parametrize("first", [0, 1])
def test_folded_layers_add_what_layers_add(rank: int, kv: int, first: int) -> None:
    """The folded matrices are right for all layers, and for the layers of one pipeline rank."""
    layers, weights = [layer(row, kv) for row in range(first, LAYERS)], injection(rank, kv)
    bound = torch.randn(5, C)
    folded = folded_maps(layers, weights)
    assert folded is not None
    assert (folded.outputs is not None) == (kv == 1)
    pack(folded.values)
    rows = folded(bound).transpose(0, 1)
    torch.testing.assert_close(rows, expected(bound, layers, weights), atol=1e-5, rtol=1e-4)


def test_in_half_precision_too() -> None:
    """Folding works while torch's default dtype is bfloat16. vLLM sets this dtype while it loads a
    model.
    """
    layers, weights = [layer(row, 1) for row in range(LAYERS)], injection(RANK, 1)
    bound = torch.randn(5, C)
    right = expected(bound, layers, weights)
    for each in layers:
        for linear_map in (each.self_attn.qkv_proj, each.self_attn.o_proj):
            linear_map.weight.data = linear_map.weight.bfloat16()
    torch.set_default_dtype(torch.bfloat16)
    try:
        folded = folded_maps(layers, weights)
    finally:
        torch.set_default_dtype(torch.float32)
    assert folded is not None
    pack(folded.values)
    rows = folded(bound.bfloat16()).transpose(0, 1)
    assert rows.dtype == torch.bfloat16
    torch.testing.assert_close(rows.float(), right, atol=0.05, rtol=0.05)


def test_a_layer_that_is_not_plain_is_not_folded() -> None:
    layers, weights = [layer(row) for row in range(LAYERS)], injection(RANK)
    layers[1].self_attn.o_proj.quant_method = object()  # makes the layer look quantised
    assert folded_maps(layers, weights) is None


def test_several_ranks_do_not_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(value_form, "get_tensor_model_parallel_world_size", lambda: 2)
    assert folded_maps([layer(0)], injection(RANK)) is None


def test_layers_on_another_device_are_not_folded() -> None:
    """Layers that vLLM's CPU offloading keeps in host memory are not folded."""
    assert plain_layers([layer(0)], injection(RANK), torch.device("meta")) is None


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kv", [1, 2, 4])
@pytest.mark.parametrize("rank", [0, RANK])
@pytest.mark.parametrize("first", [0, 1])
def test_the_layers_own_maps_add_the_same(rank: int, kv: int, first: int, packed: bool) -> None:
    layers, weights = [layer(row, kv) for row in range(first, LAYERS)], injection(rank, kv)
    bound = torch.randn(5, C)
    right = expected(bound, layers, weights)
    for each in layers:
        pack(each.self_attn.o_proj)  # on a CPU, vLLM can apply a layer only after packing
        if packed:
            pack(each.self_attn.qkv_proj)
    rows = layer_rows(layers, weights, bound, None).transpose(0, 1)
    torch.testing.assert_close(rows, right, atol=1e-5, rtol=1e-4)


def test_run_time_lora_changes_the_rows_of_its_requests() -> None:
    """Only the rows of requests with a LoRA adapter change: here, the second and the fourth."""
    layers, weights, bound = [layer(row) for row in range(LAYERS)], injection(0), torch.randn(5, C)
    for each in layers:
        pack(each.self_attn.o_proj)
    plain = layer_rows(layers, weights, bound, None)
    factors = []
    for each in layers:
        output = each.self_attn.o_proj
        output.lora_a_stacked = [torch.randn(4, 1, RANK, HEADS * SIZE)]
        output.lora_b_stacked = [torch.randn(4, 1, C, RANK)]
        factors.append(output.lora_b_stacked[0] @ output.lora_a_stacked[0])  # shape (4, 1, C, H*d)
    model = SimpleNamespace(lora_manager=SimpleNamespace(lora_index_to_id=[None, 7, 9, None]))
    lora = RuntimeLoRA.of(model, [0, 9, 0, 7, 0], Device(torch.device("cpu")))
    assert lora is not None
    adapted = layer_rows(layers, weights, bound, lora)
    heads = value_form._gated_heads(layers, weights, bound)
    for j in range(LAYERS):
        added = torch.zeros(5, C)
        added[1] = factors[j][2, 0] @ heads[j, 1]
        added[3] = factors[j][1, 0] @ heads[j, 3]
        torch.testing.assert_close(adapted[j], plain[j] + added, atol=1e-4, rtol=1e-4)
    assert RuntimeLoRA.of(model, [0, 0], Device(torch.device("cpu"))) is None


def test_value_rows_of_a_plain_layer_and_of_a_packed_one() -> None:
    """`value` gives the same result for a packed qkv matrix and for a plain one, which a GPU
    has.
    """
    each, source = layer(0), torch.randn(5, C)
    qkv = each.self_attn.qkv_proj
    plain = value(each, source)
    torch.testing.assert_close(plain, source @ qkv.weight[(HEADS + KV) * SIZE :].T)
    pack(qkv)
    assert plain_weight(qkv) is None
    torch.testing.assert_close(value(each, source), plain, atol=1e-5, rtol=1e-4)


def test_under_a_wrapper_of_run_time_lora() -> None:
    inner, x = linear(C, C), torch.randn(2, C)
    wrapped: Any = SimpleNamespace(base_layer=inner)
    assert plain_weight(wrapped) is not None
    pack(inner)
    assert without_bias(wrapped, x).shape == (2, C)


def test_packing_does_not_change_a_map() -> None:
    ours, x = PackedLinear(C, 2 * C), torch.randn(3, C)
    before = nn.functional.linear(x, ours.weight, ours.bias)
    pack(ours)
    torch.testing.assert_close(ours(x), before, atol=1e-5, rtol=1e-4)
    # the names that the tensors have in a model folder
    assert set(ours.state_dict()) == {"weight", "bias"}
