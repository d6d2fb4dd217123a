"""The Triton kernels choose the same points as the plain torch version."""

import os
import subprocess
import sys

import pytest


def test_kernels_equal_torch_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    run = subprocess.run(
        [sys.executable, "-m", "tests.model_ext.imagebind.interpreted_kernels"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "200 small and 2 full-size clouds" in run.stdout
