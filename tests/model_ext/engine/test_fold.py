"""All layers' maps in one give what each layer gives, packed as vLLM packs them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from vllm.model_executor.layers.linear import UnquantizedLinearMethod

from model_ext.engine import fold as module
from model_ext.engine.fold import fold
from model_ext.engine.linear import PackedLinear, plain_weight, without_bias
from model_ext.engine.model import _value
from model_ext.inject import ValueLayer, value_deltas

C, HEADS, KV, SIZE, LAYERS, RANK = 64, 4, 2, 16, 3, 2


@pytest.fixture(autouse=True)
def one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 1)


def linear(rows: int, columns: int) -> Any:
    """As vLLM's layers look between loading and packing."""
    made = nn.Module()
    made.weight = nn.Parameter(torch.randn(rows, columns) / columns**0.5, requires_grad=False)
    made.bias = None
    made.quant_method = UnquantizedLinearMethod()
    return made


def layer(row: int, kv: int = KV) -> Any:
    attention = SimpleNamespace(
        qkv_proj=linear((HEADS + 2 * kv) * SIZE, C),
        o_proj=linear(C, HEADS * SIZE),
        q_size=HEADS * SIZE,
        kv_size=kv * SIZE,
        head_dim=SIZE,
    )
    return SimpleNamespace(self_attn=attention, row=row)


def injection(rank: int, kv: int = KV) -> Any:
    made = {"gate": torch.randn(LAYERS, HEADS), "query": torch.randn(LAYERS, C)}
    if rank:
        made["v_lora_a"] = torch.randn(LAYERS, rank, C) / C**0.5
        made["v_lora_b"] = torch.randn(LAYERS, kv * SIZE, rank)
    return SimpleNamespace(**made)


def expected(bound: torch.Tensor, layers: list[Any], weights: Any) -> torch.Tensor:
    """(n, q, C), layer by layer."""
    lora = hasattr(weights, "v_lora_a")
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
    """Also the later ones alone, as a pipeline's second rank holds them."""
    layers, weights = [layer(row, kv) for row in range(first, LAYERS)], injection(rank, kv)
    bound = torch.randn(5, C)
    folded = fold(layers, weights)
    assert folded is not None
    assert (folded.outputs is not None) == (kv == 1)
    pack(folded.values)
    found = folded(bound).transpose(0, 1)
    torch.testing.assert_close(found, expected(bound, layers, weights), atol=1e-5, rtol=1e-4)


def test_in_half_precision_too() -> None:
    """vLLM loads weights while the model's type is torch's default."""
    layers, weights = [layer(row, 1) for row in range(LAYERS)], injection(RANK, 1)
    bound = torch.randn(5, C)
    right = expected(bound, layers, weights)
    for each in layers:
        for linear_map in (each.self_attn.qkv_proj, each.self_attn.o_proj):
            linear_map.weight.data = linear_map.weight.bfloat16()
    torch.set_default_dtype(torch.bfloat16)
    try:
        folded = fold(layers, weights)
    finally:
        torch.set_default_dtype(torch.float32)
    assert folded is not None
    pack(folded.values)
    found = folded(bound.bfloat16()).transpose(0, 1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), right, atol=0.05, rtol=0.05)


def test_a_layer_that_is_not_plain_is_not_folded() -> None:
    layers, weights = [layer(row) for row in range(LAYERS)], injection(RANK)
    layers[1].self_attn.o_proj.quant_method = object()  # some other method, with scales
    assert fold(layers, weights) is None


def test_several_ranks_do_not_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: 2)
    assert fold([layer(0)], injection(RANK)) is None


def test_value_rows_of_a_plain_layer_and_of_a_packed_one() -> None:
    """Plain is what a GPU keeps, where only these rows are read."""
    each, source = layer(0), torch.randn(5, C)
    qkv = each.self_attn.qkv_proj
    plain = _value(each, source)
    torch.testing.assert_close(plain, source @ qkv.weight[(HEADS + KV) * SIZE :].T)
    pack(qkv)
    assert plain_weight(qkv) is None
    torch.testing.assert_close(_value(each, source), plain, atol=1e-5, rtol=1e-4)


def test_under_a_wrapper_of_run_time_lora() -> None:
    inner, x = linear(C, C), torch.randn(2, C)
    wrapped: Any = SimpleNamespace(base_layer=inner)
    assert plain_weight(wrapped) is not None
    pack(inner)
    assert without_bias(wrapped, x).shape == (2, C)


def test_a_packed_map_is_the_map() -> None:
    ours, x = PackedLinear(C, 2 * C), torch.randn(3, C)
    before = nn.functional.linear(x, ours.weight, ours.bias)
    pack(ours)
    torch.testing.assert_close(ours(x), before, atol=1e-5, rtol=1e-4)
    assert set(ours.state_dict()) == {"weight", "bias"}  # the names in a model's folder
