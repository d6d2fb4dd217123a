"""Rotary embeddings and context length from Meta's params.json of every LLaMA generation."""

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from model_ext.convert.rope_meta import positions

PATH = Path("params.json")


@pytest.mark.parametrize(
    ("params", "theta", "context"),
    [
        ({}, 10000.0, 2048),  # LLaMA 1 has no rope_theta.
        ({"rope_theta": 500000.0}, 500000.0, 8192),  # LLaMA 3 has rope_theta.
        ({"rope_theta": 500000, "max_seq_len": 4096}, 500000.0, 4096),
        ({"use_scaled_rope": False}, 10000.0, 2048),
    ],
)
def test_plain_rotations(params: dict[str, Any], theta: float, context: int) -> None:
    rope, max_positions = positions({"dim": 4096, **params}, PATH)
    assert rope == {"rope_type": "default", "rope_theta": theta}
    assert max_positions == context


@pytest.mark.parametrize(
    ("params", "factor", "context"),
    [
        ({"dim": 4096}, 8.0, 131072),  # LLaMA 3.1 has no rope_scaling_factor.
        ({"dim": 2048, "rope_scaling_factor": 32}, 32.0, 131072),  # LLaMA 3.2 has it.
        ({"dim": 4096, "max_seq_len": 16384}, 8.0, 16384),
    ],
)
def test_stretched_rotations(params: dict[str, Any], factor: float, context: int) -> None:
    rope, max_positions = positions(
        {"rope_theta": 500000.0, "use_scaled_rope": True, **params}, PATH
    )
    assert max_positions == context
    assert rope["factor"] == factor
    # LlamaConfig raises for missing keys and warns about unknown keys, which is an error here.
    config = LlamaConfig(rope_parameters=rope, max_position_embeddings=max_positions)
    assert config.rope_parameters == rope
