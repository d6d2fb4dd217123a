"""The demonstration model, a server of this model, and a browser. The tests of this folder share
them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_ext.demo import prepare
from model_ext.demo.questions import MEDIA
from tests.serving.demo.browser import Tab, chromium, opened
from tests.serving.launch import Server, serve


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "model"
    prepare.prepare(folder)
    return folder


@pytest.fixture(scope="package")
def uploads(folder: Path) -> Path:
    """The folder in which the server creates its private folder."""
    uploads = folder.parent / "uploads"
    uploads.mkdir()
    return uploads


@pytest.fixture(scope="package")
def server(folder: Path, uploads: Path) -> Iterator[Server]:
    config = folder.parent / "settings.yaml"
    config.write_text(f"page_examples: {MEDIA}\nupload_folder: {uploads}\n")
    flags = ["--max-model-len=2048", "--max-logprobs=20"]
    options = ["--page", f"--config={config}"]
    with serve(folder, folder.parent / "log", *options, flags=flags) as server:
        yield server


@pytest.fixture(scope="package")
def context() -> Iterator[Any]:
    with chromium() as context:
        yield context


@pytest.fixture
def tab(context: Any, server: Server) -> Iterator[Tab]:
    """A tab with the page. The test fails if the browser reports an error."""
    with opened(context, server.url) as tab:
        yield tab
        assert tab.errors == []
