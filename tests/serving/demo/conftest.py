"""The demonstration model and its server, which the tests of this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_ext.demo import prepare
from tests.serving.launch import Server, serve


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "model"
    prepare.prepare(folder)
    return folder


@pytest.fixture(scope="package")
def server(folder: Path) -> Iterator[Server]:
    flags = ["--max-model-len=2048", "--max-logprobs=20"]
    with serve(folder, folder.parent / "log", flags=flags) as server:
        yield server
