"""ReleasedLoop, which imitates the released code, generates the same tokens as the oracle."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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
    tensors = load_file(plain / "model.safetensors")
    assert fairness(tensors, pairs=2, shape=SHAPE).median > 0


def test_weights_are_created_in_another_dtype() -> None:
    layout = random_model.language_model_layout(SHAPE) | random_model.injection_layout(SHAPE)
    weights = random_model.random_weights(layout, 0, "cpu", torch.bfloat16)
    loop = ReleasedLoop(random_model.injected_config(SHAPE), weights)
    assert len(loop.generate(IDS, STEPS, torch.randn(1024))) == STEPS


def test_a_folder_is_written_once(tmp_path: Path) -> None:
    plain, injected = random_model.write_configs(tmp_path, SHAPE)
    assert [file.name for file in plain.iterdir()] == ["config.json"]
    random_model.write(tmp_path, SHAPE)  # adds the weights to the folders
    tensors, shared = (load_file(each / "model.safetensors") for each in (injected, plain))
    assert all(torch.equal(tensors[name], tensor) for name, tensor in shared.items())
    before = (plain / "model.safetensors").stat().st_mtime_ns
    random_model.write(tmp_path, SHAPE)
    assert (plain / "model.safetensors").stat().st_mtime_ns == before
