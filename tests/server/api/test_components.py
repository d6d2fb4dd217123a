"""Tests of opening a server's components from its settings. test_conditioner.py tests the results
of the components.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from cache_index.errors import CacheError
from model_ext.conditioning import Vector
from model_ext.config import BindServeConfig
from model_ext.imagebind.preprocess.options import ReadOptions
from server.api.components import Components, open_components
from server.encoding.components import EncodingComponents
from server.encoding.messages import Hello
from server.media import files
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.settings import Settings
from tests.server.waiting import until


class FakeEncoders:
    """A fake encoding service, which responds at once."""

    def __init__(self) -> None:
        self.closed = False

    async def hello(self) -> tuple[Hello, Vector]:
        return Hello(["vision"]), np.ones(1024, np.float32) / 32

    async def embed(self, modality: str, content: Blob, options: ReadOptions) -> Embedded:
        raise NotImplementedError

    def missing(self) -> None:
        return None

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def document(tiny_models: dict[str, Path]) -> dict[str, object]:
    text = (tiny_models["finetune"] / "config.json").read_text()
    config: dict[str, object] = json.loads(text)
    return config


async def test_description_and_readiness(components: Components, parts: EncodingComponents) -> None:
    await until(lambda: components.missing() is None)
    assert components.description["cache"] is True
    assert "vision" in components.description["encoders"]
    provenance = components.description["provenance"]
    assert provenance["stage"] == "finetune"
    assert all(source["licence"] and source["sha256"] for source in provenance["sources"])
    json.dumps(components.description)
    parts.batcher.close()
    await until(lambda: components.missing() == "the encoders stopped")


async def test_without_an_answer_of_the_cache_the_server_is_not_ready(
    components: Components,
) -> None:
    await until(lambda: components.missing() is None)
    components.retriever.trouble = CacheError("gone")
    assert components.missing() == "the cache does not answer"
    components.retriever._policy = "off"
    assert components.missing() is None


async def test_a_missing_cache_stops_the_start(
    settings: Settings, document: dict[str, object], tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"cache": "nowhere"})
    with pytest.raises(CacheError, match="nowhere"):
        await Components.open(settings, BindServeConfig.from_hf(document), tmp_path, FakeEncoders())


async def test_expired_files_are_deleted_while_the_components_are_open(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The open components delete expired files. Otherwise, a file would stay on disk until its
    owner uploads again.
    """
    monkeypatch.setattr(files, "SWEEP_S", 0.01)
    settings, swept = settings.model_copy(update={"cache": "none"}), []
    monkeypatch.setattr(files.FileStore, "sweep", lambda store: swept.append(store))
    encoders = FakeEncoders()
    async with open_components(settings, encoders, tmp_path) as components:
        await until(lambda: swept != [])
    assert swept[0] is components.files
    assert encoders.closed


async def test_a_failed_start_closes_the_encoders(settings: Settings, tmp_path: Path) -> None:
    settings, encoders = settings.model_copy(update={"cache": "nowhere"}), FakeEncoders()
    with pytest.raises(CacheError):
        async with open_components(settings, encoders, tmp_path):
            pass
    assert encoders.closed
