import asyncio

import pytest

from tests.serving.isolation import attack
from tests.serving.launch import LOCKED, Server

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [LOCKED], ids=str)]


def test_concurrent_answers_equal_solo_answers(server: Server) -> None:
    """Run the isolation check on Model Runner V1. tests/deploy/test_gpu_check.py runs it on V2."""
    report = asyncio.run(attack(server, requests=400, seed=0))
    print(report)
    report.assert_isolated()
