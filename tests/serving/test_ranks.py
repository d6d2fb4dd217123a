"""Answers with tensor or pipeline parallelism on two processes equal the reference answers.

The model has grouped heads: with tensor parallelism, each rank has one value head for two query
heads.
"""

import os
from pathlib import Path

import pytest

from tests.oracle import Oracle
from tests.serving.launch import serve
from tests.serving.models import random_model
from tests.serving.test_forms import check

pytestmark = pytest.mark.engine


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="vLLM needs one core per rank")
@pytest.mark.parametrize(
    "flags",
    [
        ["--tensor-parallel-size=2"],
        [
            "--pipeline-parallel-size=2",
            "--no-enforce-eager",
        ],  # vLLM fails early in eager mode
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
