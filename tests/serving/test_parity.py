"""The server returns the greedy ids and log-probabilities that were recorded from the released
model. The servers of these tests use vLLM's model runner V1. tests/deploy/test_gpu_check.py calls
the same tests for a server that uses runner V2, the default on GPUs.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.serving.launch import FIXTURES, SPECS, Server, Spec, golden_index
from tests.serving.media import COMBOS

pytestmark = pytest.mark.engine

GOLDEN = load_file(FIXTURES / "golden" / "logits.safetensors")
PROMPTS: list[str] = golden_index()["logits"]["prompts"]  # type: ignore[index]
# the text whose prompt, formatted by the template, is the first prompt
INSTRUCTION = "Describe the scene in detail."


def greedy_goldens(spec: Spec) -> list[tuple[str, str, bool]]:
    """Return the recorded greedy answers that fit the model and the cache of a server.

    Each is (key of the record, name of the combination of inputs, whether the cache is used).
    """
    goldens = []
    for key in golden_index()["logits"]["greedy"]:  # type: ignore[index]
        kind, combo, _, *cache = key.split("/")
        if kind == spec.model and cache in ([], [spec.cache]):
            goldens.append((f"{key}/greedy_ids", combo, bool(cache)))
    return goldens


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_greedy_ids(spec: Spec, server: Server) -> None:
    goldens = greedy_goldens(spec)
    assert len(goldens) == (4 if spec.cache == "none" else 5)

    def answer(golden: tuple[str, str, bool]) -> list[int]:
        _, combo, with_cache = golden
        body = server.chat(
            messages=[
                {
                    "role": "user",
                    "content": [*COMBOS[combo], {"type": "text", "text": INSTRUCTION}],
                }
            ],
            temperature=0,
            max_tokens=32,
            imagebind={"cache": with_cache},
            return_token_ids=True,
        )
        (choice,) = body["choices"]  # type: ignore[misc]
        ids: list[int] = choice["token_ids"]
        return ids

    with ThreadPoolExecutor(len(goldens)) as pool:
        answers = list(pool.map(answer, goldens))
    assert answers == [GOLDEN[key].tolist() for key, _, _ in goldens]


@pytest.mark.parametrize("prompt", [0, 1, 2])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_prompt_logprobs(spec: Spec, server: Server, prompt: int) -> None:
    for combo, parts in COMBOS.items():
        golden = f"{spec.model}/{combo}/prompt{prompt}"
        response = server.post(
            "/v1/completions",
            {
                "model": "any",
                "prompt": PROMPTS[prompt],
                "attachments": parts,
                "imagebind": {"cache": False},
                "prompt_logprobs": 512,
                "max_tokens": 1,
                "temperature": 0,
            },
        )
        assert response.status_code == 200, response.text
        (choice,) = response.json()["choices"]
        logprobs = distributions(choice["prompt_logprobs"])
        lse = GOLDEN[f"{golden}/lse"].astype(np.float64)
        expected = GOLDEN[f"{golden}/logits_s8"] - lse[:, None]
        # vLLM returns no log-probabilities for the first token of a prompt.
        assert logprobs.shape == (len(lse) - 1, 512)
        assert np.abs(logprobs[:, ::8] - expected[:-1]).max() <= 1e-3
        assert (logprobs.argmax(-1) == GOLDEN[f"{golden}/argmax"][:-1]).all()


def distributions(prompt_logprobs: list[dict[str, Any] | None]) -> np.ndarray:
    """Convert vLLM's prompt_logprobs to an array (positions, vocabulary)."""
    assert prompt_logprobs[0] is None
    rows = np.full((len(prompt_logprobs) - 1, 512), np.nan)
    for row, entry in zip(rows, prompt_logprobs[1:], strict=True):
        assert entry is not None
        for token, logprob in entry.items():
            row[int(token)] = logprob["logprob"]
    assert np.isfinite(rows).all()
    return rows


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_server_uses_the_runner_of_its_spec(spec: Spec, server: Server) -> None:
    log = server.log.read_text()
    assert ("Using V2 Model Runner" in log) == (spec.runner == "v2")
    used = "ConditionedModelState" if spec.runner == "v2" else "ConditionedCPURunner"
    assert f"bindserve conditions requests through {used}" in log
