from pathlib import Path

import pytest

from tests.serving.isolation import run

pytestmark = pytest.mark.engine


def test_concurrent_answers_equal_solo_answers(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """Run tests/serving/isolation.py on runner V1. tests/deploy/test_gpu_check.py runs it on V2."""
    report = run(tiny_models["finetune"], tmp_path / "log", 400, "v1")
    print(report)
    report.assert_isolated()
