"""Answers with LoRA adapters on a grouped-query base equal those of the oracle (slow reference
implementation), on model runner V2. tests/serving/test_processes.py checks the same on V1.

An adapter that a request selects changes the output projection of the injected term, but not its
value projection. Requests with two adapters and without an adapter share a batch.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.oracle import Oracle
from tests.serving.launch import Server, serve
from tests.serving.models import lora_adapter, random_model, with_lora

pytestmark = pytest.mark.engine

PROMPTS = ["Rain on a tin roof", "What is shown here, and why?", "42"]
STEPS = 12


@dataclass(frozen=True)
class Adapted:
    """A model with grouped-query attention, and two LoRA adapters."""

    model: Path
    flags: list[str]  # The flags of vLLM that load the adapters.
    oracles: dict[str, Oracle]  # The model's name in a request -> its oracle.

    @classmethod
    def write(cls, like: Path, folder: Path) -> "Adapted":
        """Write the model and its adapters to `folder`, with the tokenizer and the encoders of the
        model folder `like`.
        """
        model = random_model(like, folder / "model", "value")
        adapters = {name: lora_adapter(folder / name, seed) for seed, name in enumerate("ab", 1)}
        oracle = Oracle.from_folder(model)
        oracles = {"any": oracle} | {n: with_lora(oracle, path) for n, path in adapters.items()}
        flags = ["--enable-lora", "--max-loras=2", "--max-lora-rank=8", "--lora-modules"]
        return cls(model, flags + [f"{name}={path}" for name, path in adapters.items()], oracles)


@pytest.fixture(scope="module")
def with_adapters(
    tiny_models: dict[str, Path], tmp_path_factory: Any
) -> Iterator[tuple[Server, dict[str, Oracle]]]:
    folder = tmp_path_factory.mktemp("forms")
    adapted = Adapted.write(tiny_models["finetune"], folder)
    log, flags = folder / "log", adapted.flags
    with serve(adapted.model, log, "--cache=none", runner="v2", flags=flags) as server:
        yield server, adapted.oracles


def check(server: Server, oracles: dict[str, Oracle]) -> None:
    """Send all pairs of a model name and a prompt at the same time, with different embeddings."""
    rng = np.random.default_rng(0)
    requests = [
        (name, prompt, rng.standard_normal(40).astype(np.float32))
        for name in oracles
        for prompt in PROMPTS
    ]

    def ask(request: tuple[str, str, np.ndarray]) -> dict[str, Any]:
        name, prompt, embedding = request
        part = {"type": "imagebind_embedding", "imagebind_embedding": {"data": embedding.tolist()}}
        response = server.post(
            "/v1/completions",
            {
                **{"model": name, "prompt": prompt, "attachments": [part]},
                **{"logprobs": 1, "max_tokens": STEPS, "temperature": 0},
                **{"return_token_ids": True, "ignore_eos": True},
            },
        )
        assert response.status_code == 200, response.text
        (choice,) = response.json()["choices"]
        return dict(choice)

    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(ask, requests))
    for (name, _, embedding), answer in zip(requests, answers, strict=True):
        ids = answer["prompt_token_ids"] + answer["token_ids"]
        unit = torch.from_numpy(embedding / np.linalg.norm(embedding) / (1 + 1e-6))
        logits = oracles[name].logits(ids, unit)
        best = logits[len(answer["prompt_token_ids"]) - 1 : -1].log_softmax(-1).max(-1)
        assert answer["token_ids"] == best.indices.tolist()
        got = np.array(answer["logprobs"]["token_logprobs"])
        assert np.abs(got - best.values.numpy()).max() <= 1e-3


def test_grouped_query_base_with_two_adapters(
    with_adapters: tuple[Server, dict[str, Oracle]],
) -> None:
    check(*with_adapters)


def test_the_adapters_change_the_logits(with_adapters: tuple[Server, dict[str, Oracle]]) -> None:
    _, oracles = with_adapters
    unit = torch.ones(40) / 40**0.5
    logits = [oracle.logits([1, 5, 9], unit) for oracle in oracles.values()]
    assert (logits[0] - logits[1]).abs().max() > 0.1
    assert (logits[1] - logits[2]).abs().max() > 0.1


def test_prompt_logprobs_with_lora_are_rejected(
    with_adapters: tuple[Server, dict[str, Oracle]],
) -> None:
    """The server rejects prompt_logprobs with LoRA. On a CPU, they would end vLLM 0.32's engine."""
    server, oracles = with_adapters
    body = {"model": "a", "prompt": "Rain", "prompt_logprobs": 1, "max_tokens": 1}
    response = server.post("/v1/completions", body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "prompt_logprobs"
    check(server, oracles)
