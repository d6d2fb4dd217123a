"""The loop that the engine is compared with writes what the slow oracle writes."""

from pathlib import Path

import pytest
import torch

from model_ext.bench import random_model
from model_ext.bench.released import ReleasedLoop
from model_ext.bench.throughput import fairness
from tests.oracle import Oracle

IDS, STEPS = list(range(40, 60)), 12
SHAPE = random_model.Shape(64, 96, 3, 4, 2, 256)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return random_model.write(tmp_path_factory.mktemp("random"), SHAPE)


def test_it_writes_what_the_oracle_writes(models: tuple[Path, Path]) -> None:
    _, injected = models
    loop, oracle = ReleasedLoop.from_folder(injected), Oracle.from_folder(injected)
    embedding = torch.randn(1024, generator=torch.Generator().manual_seed(0))
    written = loop.generate(IDS, STEPS, embedding)
    assert written == [
        int(oracle.logits(IDS + written[:i], embedding)[-1].argmax()) for i in range(STEPS)
    ]
    assert written != loop.generate(IDS, STEPS, -embedding)


def test_without_injection_it_writes_what_transformers_writes(models: tuple[Path, Path]) -> None:
    plain, _ = models
    assert fairness(plain, pairs=2, shape=SHAPE).median > 0
