"""The served model is the released model: greedy ids and log-probabilities of all goldens.

Over HTTP, once on vLLM's V1 runner and once on its V2 runner, the default on GPUs.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.serving.launch import FIXTURES, Runner, Server, golden_index, serve
from tests.serving.media import COMBOS

pytestmark = pytest.mark.engine

GOLDEN = load_file(FIXTURES / "golden" / "logits.safetensors")
PROMPTS: list[str] = golden_index()["logits"]["prompts"]  # type: ignore[index]
INSTRUCTION = "Describe the scene in detail."  # what the first prompt wraps in the template
MODELS = [
    ("finetune", "knn.index"),
    ("finetune", "knn-ivf.index"),
    ("pretrain", None),
    ("legacy", None),
]


@pytest.fixture(
    scope="module",
    params=[(*model, runner) for runner in ("v1", "v2") for model in MODELS],
    ids=lambda param: "-".join(map(str, param)),
)
def served(
    request: pytest.FixtureRequest, tiny_models: dict[str, Path], tmp_path_factory: Any
) -> Iterator[tuple[str, str | None, Runner, Server]]:
    checkpoint, index, runner = request.param
    folder = tmp_path_factory.mktemp("served")
    options = [f"--cache={tiny_models[index]}"] if index else ["--cache=none"]
    with serve(tiny_models[checkpoint], folder / "log", *options, runner=runner) as server:
        yield checkpoint, index, runner, server


def greedy_goldens(checkpoint: str, index: str | None) -> list[tuple[str, str, bool]]:
    """(golden key, combo, cache on) of all greedy runs that this server can repeat."""
    goldens = []
    for key in golden_index()["logits"]["greedy"]:  # type: ignore[index]
        kind, combo, _, *cache = key.split("/")
        if kind == checkpoint and cache in ([], [index]):
            goldens.append((f"{key}/greedy_ids", combo, bool(cache)))
    return goldens


def test_greedy_ids(served: tuple[str, str | None, Runner, Server]) -> None:
    checkpoint, index, _, server = served
    goldens = greedy_goldens(checkpoint, index)
    assert len(goldens) == (5 if index else 4)

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
def test_prompt_logprobs(served: tuple[str, str | None, Runner, Server], prompt: int) -> None:
    checkpoint, _, _, server = served
    for combo, parts in COMBOS.items():
        golden = f"{checkpoint}/{combo}/prompt{prompt}"
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
        got = distributions(choice["prompt_logprobs"])
        lse = GOLDEN[f"{golden}/lse"].astype(np.float64)
        expected = GOLDEN[f"{golden}/logits_s8"] - lse[:, None]
        assert got.shape == (len(lse) - 1, 512)  # nothing predicts the first token
        assert np.abs(got[:, ::8] - expected[:-1]).max() <= 1e-3
        assert (got.argmax(-1) == GOLDEN[f"{golden}/argmax"][:-1]).all()


def distributions(prompt_logprobs: list[dict[str, Any] | None]) -> np.ndarray:
    """vLLM's prompt_logprobs as an array (positions, vocabulary)."""
    assert prompt_logprobs[0] is None
    rows = np.full((len(prompt_logprobs) - 1, 512), np.nan)
    for row, entry in zip(rows, prompt_logprobs[1:], strict=True):
        assert entry is not None
        for token, logprob in entry.items():
            row[int(token)] = logprob["logprob"]
    assert np.isfinite(rows).all()
    return rows


def test_the_runner_is_the_one_meant(served: tuple[str, str | None, Runner, Server]) -> None:
    runner, log = served[2], served[3].log.read_text()
    assert ("Using V2 Model Runner" in log) == (runner == "v2")
    used = "ConditionedModelState" if runner == "v2" else "ConditionedCPURunner"
    assert f"bindserve conditions requests through {used}" in log
