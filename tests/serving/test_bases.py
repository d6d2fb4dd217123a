"""vLLM computes the conditioned logits of every supported family of base models, and of the
paper's injection form.

vLLM implements grouped heads, tied embeddings, scaled rotary embeddings and attention windows.
These tests check that the converted folder gives vLLM all the parameters that it needs, and that
the injection fits the shapes of each family. No test needs HTTP, so the engines run offline.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from model_ext.convert.model import Options, convert
from tests.bases import FAMILIES, write_sources
from tests.oracle import Oracle
from tests.serving.models import random_model
from tests.serving.offline import Answer, Prompt, generate

pytestmark = pytest.mark.engine

STEPS = 12
IDS = torch.randint(3, 512, (70,), generator=torch.Generator().manual_seed(2)).tolist()
EMBEDDING = torch.nn.functional.normalize(torch.arange(40) % 7 - 3.0, dim=0)
# Other tests serve models of the family llama2.
TESTED = [*(name for name in FAMILIES if name != "llama2"), "residual"]


@pytest.fixture(scope="module")
def models(tiny_models: dict[str, Path], tmp_path_factory: Any) -> dict[str, Path]:
    tokenizer = tiny_models["finetune"] / "tokenizer.json"
    options = Options(dtype=torch.float32, golden=False, progress=False)
    folders = {}
    for family in TESTED:
        folder = tmp_path_factory.mktemp(family)
        folders[family] = folder / "model"
        if family == "residual":
            random_model(tiny_models["finetune"], folders[family], family)
        else:
            convert(write_sources(folder, family, "finetune", tokenizer), folders[family], options)
    return folders


@pytest.fixture(scope="module")
def answers(models: dict[str, Path]) -> dict[str, Answer]:
    """Answers of vLLM to one prompt, by family of base models. One process computes all."""
    prompt = Prompt(IDS, EMBEDDING.tolist(), STEPS, prompt_logprobs=True)
    generated = generate({folder: [prompt] for folder in models.values()})
    return {family: generated[folder][0] for family, folder in models.items()}


@pytest.mark.parametrize("family", TESTED)
def test_vllm_computes_the_oracles_logits(
    models: dict[str, Path], answers: dict[str, Answer], family: str
) -> None:
    """vLLM's log-probabilities equal the oracle's for a prompt of several blocks and windows."""
    oracle, answer = Oracle.from_folder(models[family]), answers[family]
    expected = oracle.logits(IDS, EMBEDDING).log_softmax(-1)
    assert answer.prompt_logprobs is not None
    logprobs = torch.from_numpy(answer.prompt_logprobs).float()
    torch.testing.assert_close(logprobs, expected[:-1], atol=1e-3, rtol=0)
    ids = list(IDS)
    for token in answer.ids:
        logits = oracle.logits(ids, EMBEDDING)[-1]
        # The token has the largest logit, up to rounding errors.
        assert logits[token] > logits.max() - 1e-3
        ids.append(token)
    assert len(ids) == len(IDS) + STEPS
    unconditioned = oracle.logits(IDS).log_softmax(-1)
    assert (unconditioned - expected).abs().max() > 0.1  # The embedding changes the logits.
