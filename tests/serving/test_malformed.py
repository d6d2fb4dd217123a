"""A fixed set of 1,000 damaged files of all formats does not harm the server or its other clients.

`python -m tests.serving.malformed` sends more files.
"""

import asyncio

import pytest

from tests.serving.launch import PLAIN, Server
from tests.serving.malformed import attack, damaged_files
from tests.serving.seeds import seeds

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]


def test_damaged_files_do_no_harm(server: Server) -> None:
    files, good = damaged_files(1000, seed=7), seeds()
    damaged = {name for name, data in files if data and data not in good.values()}
    assert damaged >= good.keys()
    report = asyncio.run(attack(server, files))
    assert report.sent.total() == 1000
    report.assert_well()
