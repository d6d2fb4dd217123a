import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from server.conditioning.mix import mix, normalize
from server.errors import BadRequest

GOLDEN = Path(__file__).parents[2] / "fixtures" / "golden"
EMBEDDINGS = load_file(GOLDEN / "embeddings.safetensors")
MIXED = load_file(GOLDEN / "visual.safetensors")
COMBOS = json.loads((GOLDEN / "index.json").read_text())["visual"]["combos"]


@pytest.mark.parametrize("combo", COMBOS)
def test_matches_the_released_mix(combo: str) -> None:
    units = normalize(np.concatenate([EMBEDDINGS[f"{name}/post"] for name, _ in COMBOS[combo]]))
    mixed = mix(units, [weight for _, weight in COMBOS[combo]])
    np.testing.assert_allclose(mixed, MIXED[f"{combo}/mixed"][0], rtol=0, atol=1e-6)


def test_one_input_is_scaled_by_the_epsilon_of_the_formula() -> None:
    unit = np.array([[0.6, 0.8]], np.float32)
    assert np.allclose(mix(unit, [1.0]), unit[0] / np.float32(1 + 1e-6), rtol=0, atol=1e-9)
    assert (mix(unit, [1.0]) != unit[0]).any()


def test_only_the_ratio_of_the_weights_counts() -> None:
    units = np.eye(2, dtype=np.float32)
    assert np.allclose(mix(units, [1, 3]), mix(units, [10, 30]), atol=1e-6)
    assert np.allclose(mix(units, [1, 3]), [0.25, 0.75], atol=1e-6)


def test_a_negative_weight_subtracts() -> None:
    assert np.allclose(mix(np.eye(2, dtype=np.float32), [2, -1]), [2, -1], atol=1e-5)


@pytest.mark.parametrize("weights", [(1, -1), (0, 0), (1, -0.96), (0.02, 0.02), (-0.02, -0.02)])
def test_weights_that_cancel_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(BadRequest, match="sum to"):
        mix(np.eye(2, dtype=np.float32), weights)


def test_a_zero_vector_stays_zero() -> None:
    assert (normalize(np.zeros((1, 3), np.float32)) == 0).all()
