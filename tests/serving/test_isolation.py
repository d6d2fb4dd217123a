from pathlib import Path

import pytest

from tests.serving.isolation import run
from tests.serving.launch import Runner

pytestmark = pytest.mark.engine


@pytest.mark.parametrize(("runner", "requests"), [("v1", 400), ("v2", 60)])
def test_concurrent_answers_equal_solo_answers(
    runner: Runner, requests: int, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    report = run(tiny_models["finetune"], tmp_path / "log", requests, runner)
    print(report)
    report.assert_isolated()
