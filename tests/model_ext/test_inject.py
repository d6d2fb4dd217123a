"""The precomputed terms equal an injection into the heads, at every position.

`tests/oracle.py` implements the definition of the model. These tests run the oracle on random
models with shapes that no released model has (grouped value heads, the paper's residual form).
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from model_ext.inject import (
    ValueLayer,
    base_value,
    gated_heads,
    gated_output,
    residual_deltas,
    value_deltas,
)
from tests.oracle import Oracle
from tests.rounding import between

C, F, V, D, LAYERS, INJECTED, SIZE = 32, 48, 19, 12, 3, 2, 8
IDS = [3, 1, 4, 1, 5, 9]


def random_model(form: str, heads: int, kv_heads: int, rank: int, bias: bool = False) -> Oracle:
    torch.manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (V, C),
        "model.norm.weight": (C,),
        "lm_head.weight": (V, C),
        "bind.proj.weight": (C, D),
        "bind.proj.bias": (C,),
    }
    for j in range(2):
        shapes |= {
            f"bind.blocks.{j}.norm.weight": (C,),
            f"bind.blocks.{j}.gate_proj.weight": (F, C),
            f"bind.blocks.{j}.up_proj.weight": (F, C),
            f"bind.blocks.{j}.down_proj.weight": (C, F),
        }
    maps = {
        "self_attn.q_proj": (heads * SIZE, C),
        "self_attn.k_proj": (kv_heads * SIZE, C),
        "self_attn.v_proj": (kv_heads * SIZE, C),
        "self_attn.o_proj": (C, heads * SIZE),
        "mlp.gate_proj": (F, C),
        "mlp.up_proj": (F, C),
        "mlp.down_proj": (C, F),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}{name}.weight": shape for name, shape in maps.items()}
        if bias:
            shapes |= {f"{prefix}{name}.bias": shape[:1] for name, shape in maps.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}{norm}.weight"] = (C,)
    if form == "value":
        shapes |= {"injection.gate": (INJECTED, heads), "injection.query": (INJECTED, C)}
        if rank:
            shapes["injection.v_lora_a"] = (INJECTED, rank, C)
            shapes["injection.v_lora_b"] = (INJECTED, kv_heads * SIZE, rank)
    else:
        shapes["injection.gate"] = (INJECTED, 1)
    config: dict[str, Any] = {
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": SIZE,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "bind": {"blocks": 2, "norm": "rmsnorm", "norm_eps": 1e-6},
        "injection": {
            "form": form,
            "first_layer": LAYERS - INJECTED,
            "layers": INJECTED,
            "v_correction_rank": rank,
        },
    }
    return Oracle(config, {name: torch.randn(shape) * 0.4 for name, shape in shapes.items()})


def layer_weights(model: Oracle, j: int) -> ValueLayer:
    prefix = f"model.layers.{LAYERS - INJECTED + j}.self_attn"
    lora = {
        name: model.weights[f"injection.{name}"][j]
        if f"injection.{name}" in model.weights
        else None
        for name in ("v_lora_a", "v_lora_b")
    }
    return ValueLayer(
        query=model.weights["injection.query"][j],
        gate=model.weights["injection.gate"][j],
        v_proj=model.weights[f"{prefix}.v_proj.weight"],
        o_proj=model.weights[f"{prefix}.o_proj.weight"],
        **lora,
    )


@pytest.mark.parametrize(
    ("heads", "kv_heads", "rank", "bias"),
    [(4, 4, 0, False), (4, 4, 3, True), (4, 2, 0, False), (6, 2, 3, True), (4, 1, 3, False)],
)
def test_value_form_equals_injection_into_heads(
    heads: int, kv_heads: int, rank: int, bias: bool
) -> None:
    """The precomputed terms are right, even if projections have biases. Each bias is added only
    once.
    """
    model = random_model("value", heads, kv_heads, rank, bias)
    embedding = torch.randn(D)
    layers = [layer_weights(model, j) for j in range(INJECTED)]
    deltas = value_deltas(model.bind(embedding)[None], layers)
    assert deltas.shape == (1, INJECTED, C)
    expected = model.logits(IDS, embedding)
    torch.testing.assert_close(model.logits(IDS, deltas=deltas[0]), expected, atol=1e-4, rtol=1e-4)
    assert (model.logits(IDS) - expected).abs().max() > 0.1


def test_residual_form_equals_adding_to_the_input() -> None:
    """Paper, equation 2."""
    model = random_model("residual", heads=4, kv_heads=2, rank=0)
    embedding = torch.randn(D)
    deltas = residual_deltas(model.bind(embedding)[None], model.weights["injection.gate"])
    assert deltas.shape == (1, INJECTED, C)
    expected = model.logits(IDS, embedding)
    torch.testing.assert_close(model.logits(IDS, deltas=deltas[0]), expected, atol=1e-4, rtol=1e-4)
    assert (model.logits(IDS) - expected).abs().max() > 0.1


def test_requests_of_a_batch_do_not_mix() -> None:
    model = random_model("value", heads=6, kv_heads=2, rank=3)
    layers = [layer_weights(model, j) for j in range(INJECTED)]
    bound = torch.randn(4, C)
    together = value_deltas(bound, layers)
    apart = torch.cat([value_deltas(one[None], layers) for one in bound])
    # the value and the output projection are two sums
    bound = between([C, C]) * apart.abs().max().item()
    torch.testing.assert_close(together, apart, atol=bound, rtol=0)


def test_closed_gates_add_nothing() -> None:
    layer = layer_weights(random_model("value", heads=4, kv_heads=2, rank=3), 0)
    closed = ValueLayer(layer.query, torch.zeros(4), layer.v_proj, layer.o_proj)
    assert not value_deltas(torch.randn(2, C), [closed]).any()
    assert not residual_deltas(torch.randn(2, C), torch.zeros(INJECTED, 1)).any()


def test_each_gate_opens_its_own_head_through_tanh() -> None:
    """Each head reads the value head of its group, multiplied by tanh of the head's gate."""
    values = torch.arange(1.0, 5.0)[None]  # two value heads: (1, 2) and (3, 4)

    def heads_of(gate: Tensor) -> list[float]:
        rounded: list[float] = gated_heads(values, gate, 2)[0].round(decimals=3).tolist()
        return rounded

    assert heads_of(torch.tensor([100.0, 0, 0, 0])) == [1, 2, 0, 0, 0, 0, 0, 0]
    assert heads_of(torch.tensor([0, 100.0, 100.0, 0])) == [0, 0, 1, 2, 3, 4, 0, 0]
    assert heads_of(torch.tensor([0, 0, 0, -100.0])) == [0, 0, 0, 0, 0, 0, -3, -4]


def test_base_value_removes_the_lora() -> None:
    """`base_value` subtracts the contribution of LoRA from the values of one layer or several
    layers.
    """
    torch.manual_seed(0)
    base, lora_a, lora_b = torch.randn(2, 6, C), torch.randn(2, 3, C), torch.randn(2, 6, 3)
    source = torch.randn(2, 5, C)
    merged = source @ (base + lora_b @ lora_a).mT
    expected = source @ base.mT
    torch.testing.assert_close(
        base_value(source, merged, lora_a, lora_b), expected, atol=1e-4, rtol=1e-4
    )
    alone = base_value(source[1], merged[1], lora_a[1], lora_b[1])
    torch.testing.assert_close(alone, expected[1], atol=1e-4, rtol=1e-4)


def test_each_layer_has_its_own_gate_when_all_are_computed_together() -> None:
    torch.manual_seed(0)
    values, gate = torch.randn(3, 5, 4), torch.randn(3, 4)
    together = gated_heads(values, gate[:, None], 2)
    apart = torch.stack([gated_heads(v, g, 2) for v, g in zip(values, gate, strict=True)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gates_stay_exact_in_half_precision(dtype: torch.dtype) -> None:
    """Gates stay in float32, so that a small gate is not rounded to zero."""
    gate = torch.tensor([1e-6, 1.0])
    source = torch.full((1, 4), 1024.0, dtype=dtype)
    heads = gated_heads(source, gate, 2)
    assert heads.dtype == dtype
    assert heads[0, 0].item() == pytest.approx(1024e-6, rel=0.05)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_an_output_map_with_its_gates_inside(kv_heads: int) -> None:
    torch.manual_seed(0)
    values, gate, output = torch.randn(3, kv_heads * 2), torch.randn(6), torch.randn(C, 6 * 2)
    folded = values @ gated_output(output, gate, kv_heads).mT
    expected = gated_heads(values, gate, 2) @ output.mT
    torch.testing.assert_close(folded, expected, atol=1e-5, rtol=1e-5)
