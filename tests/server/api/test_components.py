"""What is opened for which settings; the opened stages are tested in test_conditioner.py."""

import json
from pathlib import Path

import pytest

from cache_index.errors import CacheError
from model_ext.config import BindServeConfig
from server.api.components import Stages
from server.encoding.components import EncodingParts
from server.settings import Settings
from tests.server.waiting import until


@pytest.fixture
def document(tiny_models: dict[str, Path]) -> dict[str, object]:
    text = (tiny_models["finetune"] / "config.json").read_text()
    found: dict[str, object] = json.loads(text)
    return found


async def test_description_and_readiness(stages: Stages, parts: EncodingParts) -> None:
    await until(lambda: stages.missing() is None)
    assert stages.description["cache"] is True
    assert "vision" in stages.description["encoders"]
    provenance = stages.description["provenance"]
    assert provenance["stage"] == "finetune"
    assert all(source["licence"] and source["sha256"] for source in provenance["sources"])
    json.dumps(stages.description)
    parts.encoder.close()
    await until(lambda: stages.missing() == "the encoders stopped")


async def test_a_cache_that_cannot_be_asked_is_not_ready(stages: Stages) -> None:
    await until(lambda: stages.missing() is None)
    stages.retriever.trouble = CacheError("gone")
    assert stages.missing() == "the cache cannot be asked"
    stages.retriever._policy = "off"
    assert stages.missing() is None


async def test_a_missing_cache_stops_the_start(
    settings: Settings, document: dict[str, object], tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"cache": "nowhere"})
    with pytest.raises(CacheError, match="nowhere"):
        await Stages.open(settings, BindServeConfig.from_hf(document), tmp_path)
