"""A thousand damaged files of every format, always the same: the server and its clients stay well.

`python -m tests.serving.malformed` sends any number of others.
"""

import asyncio

import pytest

from tests.serving.launch import PLAIN, Server
from tests.serving.malformed import attack, damaged_files

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]


def test_damaged_files_harm_nobody(server: Server) -> None:
    report = asyncio.run(attack(server, damaged_files(1000, seed=7)))
    assert report.sent.total() == 1000
    assert len(report.sent) >= 20
    report.assert_well()
