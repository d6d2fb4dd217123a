"""vLLM's engine computes the conditioned logits of the oracle (slow reference implementation): for
every supported family of base models, for the paper's injection form, for a base model in 8-bit
integers, and with pipeline parallelism on two processes. tests/serving/test_processes.py checks
tensor parallelism.

vLLM implements grouped heads, tied embeddings, scaled rotary embeddings and attention windows.
These tests check that the converted folder gives vLLM all the parameters that it needs, and that
the injection fits the shapes of each family. No test needs HTTP, so one process runs all engines,
one after the other.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from model_ext.convert.model import Options, convert
from tests.bases import FAMILIES, write_sources
from tests.oracle import Oracle
from tests.serving.models import random_model
from tests.serving.offline import Answer, Job, Prompt, generate
from tests.serving.quantised import quantise

pytestmark = pytest.mark.engine

# No model with the structure of LLaMA 2, because other tests serve such models (the fixtures).
CONVERTED = [name for name in FAMILIES if name != "llama2"]
# With pipeline parallelism, vLLM's eager mode raises an error.
PIPELINE: dict[str, Any] = {"pipeline_parallel_size": 2, "enforce_eager": False}
STEPS = 12
IDS = torch.randint(3, 512, (70,), generator=torch.Generator().manual_seed(2)).tolist()
EMBEDDINGS = [normalize(torch.arange(40) % modulus - 3.0, dim=0) for modulus in (7, 5)]
# The first prompt is longer than two cache blocks and several times as long as the attention window
# of the Mistral model. Both prompts are in one batch.
PROMPTS = [
    Prompt(ids, embedding.tolist(), STEPS, prompt_logprobs=True)
    for ids, embedding in zip((IDS, IDS[30:]), EMBEDDINGS, strict=True)
]


@dataclass(frozen=True)
class Engines:
    oracles: dict[str, Oracle]
    answers: dict[str, list[Answer]]


@pytest.fixture(scope="module")
def engines(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Engines:
    """Generate the answers of all engines."""
    folder = tmp_path_factory.mktemp("engines")
    tokenizer = tiny_models["finetune"] / "tokenizer.json"
    options = Options(dtype=torch.float32, golden=False, progress=False)
    models = {name: folder / name for name in (*CONVERTED, "residual", "value", "eight-bit")}
    for family in CONVERTED:
        sources = tmp_path_factory.mktemp(family)
        convert(write_sources(sources, family, "finetune", tokenizer), models[family], options)
    for form in ("residual", "value"):
        random_model(tiny_models["finetune"], models[form], form)
    quantised = quantise(models["value"], models["eight-bit"])

    jobs = {name: Job(model, PROMPTS) for name, model in models.items()}
    if len(os.sched_getaffinity(0)) > 1:
        jobs["pipeline"] = Job(models["value"], PROMPTS, PIPELINE)
    answers = generate(jobs)
    oracles = {name: Oracle.from_folder(job.model) for name, job in jobs.items()}
    return Engines(oracles | {"eight-bit": quantised}, answers)


@pytest.mark.parametrize("name", [*CONVERTED, "residual", "value", "pipeline"])
def test_vllm_computes_the_oracles_logits(engines: Engines, name: str) -> None:
    if name not in engines.answers:
        pytest.skip("vLLM needs one core for each rank")
    oracle = engines.oracles[name]
    for prompt, embedding, answer in zip(PROMPTS, EMBEDDINGS, engines.answers[name], strict=True):
        expected = oracle.logits(prompt.ids, embedding).log_softmax(-1)
        torch.testing.assert_close(logprobs(answer), expected[:-1], atol=1e-3, rtol=0)
        ids = list(prompt.ids)
        for token, logprob in zip(answer.ids, answer.logprobs, strict=True):
            generated = oracle.logits(ids, embedding)[-1].log_softmax(-1)
            if name in ("value", "pipeline"):  # no near-ties occur in this model's answers
                assert token == generated.argmax()
            # the most probable token, up to rounding
            assert generated[token] > generated.max() - 1e-3
            assert abs(generated[token] - logprob) <= 1e-3
            ids.append(token)
        assert len(ids) == len(prompt.ids) + STEPS
        unconditioned = oracle.logits(prompt.ids).log_softmax(-1)
        assert (unconditioned - expected).abs().max() > 0.1  # the embedding changes the logits


def test_eight_bits(engines: Engines) -> None:
    """The injected term passes through the quantised projections. The format is compressed-tensors
    W8A8, which vLLM's CPU build can load.
    """
    oracle = engines.oracles["eight-bit"]
    for prompt, embedding, answer in zip(
        PROMPTS, EMBEDDINGS, engines.answers["eight-bit"], strict=True
    ):
        deltas = oracle.deltas(embedding)
        expected = oracle.logits(prompt.ids, deltas=deltas).log_softmax(-1)[:-1]
        unconditioned = oracle.logits(prompt.ids).log_softmax(-1)[:-1]
        # In each layer, vLLM and the oracle may round a value near the middle of two integers
        # differently.
        difference = (logprobs(answer) - expected).abs().mean()
        assert difference <= 0.01 * (unconditioned - expected).abs().mean()


def logprobs(answer: Answer) -> torch.Tensor:
    """Log-probabilities of the prompt (prompt tokens - 1, V)."""
    assert answer.prompt_logprobs is not None
    return torch.from_numpy(np.asarray(answer.prompt_logprobs)).float()
