"""Answers with tensor or pipeline parallelism on two processes equal the reference answers.

The model has 4 query heads and 2 value heads. With tensor parallelism, each process has 2 query
heads and one value head.
"""

import os
from pathlib import Path

import pytest

from tests.oracle import Oracle
from tests.serving.launch import serve
from tests.serving.models import random_model
from tests.serving.test_forms import check

pytestmark = pytest.mark.engine


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="vLLM needs one core per process")
@pytest.mark.parametrize(
    "flags",
    [
        ["--tensor-parallel-size=2"],
        # On a CPU, vLLM's pipeline parallelism fails in eager mode.
        ["--pipeline-parallel-size=2", "--no-enforce-eager"],
    ],
    ids=["tensor", "pipeline"],
)
def test_two_ranks(
    flags: list[str], tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = sorted(os.sched_getaffinity(0))[:2]
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(map(str, cores)))
    model = random_model(tiny_models["finetune"], tmp_path / "model", "value")
    with serve(model, tmp_path / "log", "--cache=none", flags=flags) as server:
        check(server, {"any": Oracle.from_folder(model)})
