"""A base in 8-bit integers: the injected term goes through the layers as they are, quantised.

compressed-tensors W8A8, a form that vLLM's CPU build can load.
"""

from pathlib import Path

import pytest
import torch

from tests.serving.launch import serve
from tests.serving.models import random_model
from tests.serving.quantised import quantise
from tests.serving.test_parity import distributions

pytestmark = pytest.mark.engine

IDS = list(range(40, 80))


def test_eight_bits(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    source = random_model(tiny_models["finetune"], tmp_path / "source", "value")
    oracle = quantise(source, tmp_path / "model")
    embedding = torch.nn.functional.normalize(torch.arange(40) % 7 - 3.0, dim=0)
    part = {
        "type": "imagebind_embedding",
        "imagebind_embedding": {"data": embedding.tolist()},
    }
    body = {
        **{"model": "any", "prompt": IDS, "attachments": [part]},
        **{"prompt_logprobs": 512, "max_tokens": 1, "temperature": 0},
    }
    with serve(tmp_path / "model", tmp_path / "log", "--cache=none") as server:
        response = server.post("/v1/completions", body)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    found = torch.from_numpy(distributions(choice["prompt_logprobs"])).float()
    deltas = oracle.deltas(embedding / (1 + 1e-6))
    expected = oracle.logits(IDS, deltas=deltas).log_softmax(-1)[:-1]
    unconditioned = oracle.logits(IDS).log_softmax(-1)[:-1]
    # A number that lies between two whole ones may be rounded otherwise, and that goes on.
    apart = (found - expected).abs().mean()
    assert apart <= 0.01 * (unconditioned - expected).abs().mean()
