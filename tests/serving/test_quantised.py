"""The answers of a base model in 8-bit integers equal those of the oracle (slow reference
implementation). The injected term passes through the quantised projections.

The format is compressed-tensors W8A8, which vLLM's CPU build can load.
"""

from pathlib import Path

import pytest
import torch

from tests.serving.models import random_model
from tests.serving.offline import Prompt, generate
from tests.serving.quantised import quantise

pytestmark = pytest.mark.engine

IDS = list(range(40, 80))


def test_eight_bits(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    source = random_model(tiny_models["finetune"], tmp_path / "source", "value")
    oracle = quantise(source, tmp_path / "model")
    embedding = torch.nn.functional.normalize(torch.arange(40) % 7 - 3.0, dim=0)
    prompt = Prompt(IDS, embedding.tolist(), prompt_logprobs=True)
    (answer,) = generate({tmp_path / "model": [prompt]})[tmp_path / "model"]
    assert answer.prompt_logprobs is not None
    logprobs = torch.from_numpy(answer.prompt_logprobs).float()
    expected = oracle.logits(IDS, deltas=oracle.deltas(embedding)).log_softmax(-1)[:-1]
    unconditioned = oracle.logits(IDS).log_softmax(-1)[:-1]
    # vLLM and the oracle may round a value between two integers to different integers. The
    # difference must be small compared with the effect of the embedding.
    difference = (logprobs - expected).abs().mean()
    assert difference <= 0.01 * (unconditioned - expected).abs().mean()
