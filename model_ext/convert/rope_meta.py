"""What Meta's params.json says about positions, in the words of `transformers`.

LLaMA 1 and 2 know a base only; 3 has a larger one; 3.1 stretches the slow rotations eightfold.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_ext.weights.errors import ConvertError

ROPE_PARAMS = ("rope_theta", "use_scaled_rope", "rope_scaling_factor")
BASE = 10000.0
LLAMA_3_CONTEXT = 8192  # before stretching
CONTEXTS = {False: 2048, True: LLAMA_3_CONTEXT}  # by "has a larger base", if not told
STRETCHED_CONTEXT = 131072
SCALE = 8.0  # of LLaMA 3.1's sizes
SCALE_FROM = 4096  # hidden size from which on that is known; 3.2's small models have another


def positions(params: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], int]:
    """(rope_parameters, max_position_embeddings). ConvertError names the key."""
    base = _number(params, "rope_theta", BASE, path)
    told = params.get("max_seq_len")
    if not params.get("use_scaled_rope"):
        context = told or CONTEXTS[base > BASE]
        return {"rope_type": "default", "rope_theta": base}, context
    if params["dim"] < SCALE_FROM and "rope_scaling_factor" not in params:
        raise ConvertError(
            f"{path}: use_scaled_rope without rope_scaling_factor; add the model's own (LLaMA 3.2 "
            "has 32), or convert the Hugging Face release, which tells it"
        )
    factor = _number(params, "rope_scaling_factor", SCALE, path)
    rope = {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": LLAMA_3_CONTEXT,
    }
    return rope, told or STRETCHED_CONTEXT


def _number(params: Mapping[str, Any], key: str, default: float, path: Path) -> float:
    value = params.get(key, default)
    if type(value) not in (int, float) or not 1 <= value < 1e12:
        raise ConvertError(f"{path}: {key} must be a number from 1 on, got {value!r}")
    return float(value)
