"""Translate the rotary-embedding keys of Meta's params.json into those of `transformers`.

Rotary embeddings rotate pairs of dimensions by angles that grow with the token's position. A larger
base (`rope_theta`) makes the rotations slower. LLaMA 1 and 2 use 10,000, and LLaMA 3 uses a larger
base. LLaMA 3.1 also divides the speed of the slow rotations by 8.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_ext.weights.errors import ConvertError

ROPE_PARAMS = ("rope_theta", "use_scaled_rope", "rope_scaling_factor")
BASE = 10000.0
LLAMA_3_CONTEXT = 8192  # LLaMA 3's context length in tokens, without scaling.
CONTEXTS = {False: 2048, True: LLAMA_3_CONTEXT}  # Whether the base is above BASE -> context length.
STRETCHED_CONTEXT = 131072
SCALE = 8.0  # Scaling factor of the rotations in LLaMA 3.1.
# Models with a smaller hidden size (LLaMA 3.2) have another scaling factor.
SCALE_MIN_HIDDEN = 4096


def positions(params: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], int]:
    """Return (rope_parameters, max_position_embeddings) of `transformers`.

    Raises ConvertError: when a key is missing or invalid.
    """
    base = _number(params, "rope_theta", BASE, path)
    declared = params.get("max_seq_len")
    if not params.get("use_scaled_rope"):
        context = declared or CONTEXTS[base > BASE]
        return {"rope_type": "default", "rope_theta": base}, context
    if params["dim"] < SCALE_MIN_HIDDEN and "rope_scaling_factor" not in params:
        raise ConvertError(
            f"{path}: use_scaled_rope without rope_scaling_factor; add the model's factor (32 for "
            "LLaMA 3.2), or convert the Hugging Face release, which contains this factor"
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
    return rope, declared or STRETCHED_CONTEXT


def _number(params: Mapping[str, Any], key: str, default: float, path: Path) -> float:
    value = params.get(key, default)
    if type(value) not in (int, float) or not 1 <= value < 1e12:
        raise ConvertError(f"{path}: {key} must be a number of at least 1, got {value!r}")
    return float(value)
