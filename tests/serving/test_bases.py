"""vLLM serves every family of bases as the slow oracle computes it, under a condition.

Grouped heads, tied embeddings, stretched rotations and windows are vLLM's own code: this shows that
the converted folder tells it all it must know, and that the injection fits their shapes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model_ext.convert.model import Options, convert
from tests.bases import FAMILIES, write_sources
from tests.oracle import Oracle
from tests.serving.launch import Server, serve
from tests.serving.test_parity import distributions

pytestmark = pytest.mark.engine

STEPS = 12
IDS = torch.randint(3, 512, (70,), generator=torch.Generator().manual_seed(2)).tolist()
EMBEDDING = torch.nn.functional.normalize(torch.arange(40) % 7 - 3.0, dim=0)


# The fixtures' own models, which other tests serve, are LLaMA 2 in all that matters here.
@pytest.fixture(scope="module", params=[name for name in FAMILIES if name != "llama2"])
def served(
    request: pytest.FixtureRequest, tiny_models: dict[str, Path], tmp_path_factory: Any
) -> Iterator[tuple[Server, Oracle]]:
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tiny_models["finetune"] / "tokenizer.json"
    sources = write_sources(folder, request.param, "finetune", tokenizer)
    convert(sources, folder / "model", Options(dtype=torch.float32, golden=False, progress=False))
    with serve(folder / "model", folder / "log") as server:
        yield server, Oracle.from_folder(folder / "model")


def test_it_computes_what_the_oracle_computes(served: tuple[Server, Oracle]) -> None:
    """A prompt of several blocks and, for Mistral, many windows; then greedy steps."""
    server, oracle = served
    part = {
        "type": "imagebind_embedding",
        "imagebind_embedding": {"data": EMBEDDING.tolist()},
    }
    response = server.post(
        "/v1/completions",
        {
            "model": "any",
            "prompt": IDS,
            "attachments": [part],
            "prompt_logprobs": 512,
            "max_tokens": STEPS,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        },
    )
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    mixed = EMBEDDING / (1 + 1e-6)
    expected = oracle.logits(IDS, mixed).log_softmax(-1)
    found = torch.from_numpy(distributions(choice["prompt_logprobs"])).float()
    torch.testing.assert_close(found, expected[:-1], atol=1e-3, rtol=0)
    ids = list(IDS)
    for token in choice["token_ids"]:
        logits = oracle.logits(ids, mixed)[-1]
        assert logits[token] > logits.max() - 1e-3  # the largest, but for a tie
        ids.append(token)
    assert len(ids) == len(IDS) + STEPS
    unconditioned = oracle.logits(IDS).log_softmax(-1)
    assert (unconditioned - expected).abs().max() > 0.1  # the comparison is not an empty one
