"""What is opened for which settings; the opened stages are tested in test_conditioner.py."""

import json
from pathlib import Path

import pytest

from cache_index.errors import CacheError
from model_ext.config import BindServeConfig
from server.settings import Settings
from server.stages import Stages, cache_folder, choose_device


@pytest.fixture
def document(tiny_models: dict[str, Path]) -> dict[str, object]:
    text = (tiny_models["finetune"] / "config.json").read_text()
    found: dict[str, object] = json.loads(text)
    return found


def test_which_cache(document: dict[str, object]) -> None:
    without = BindServeConfig.from_hf(document)
    own = BindServeConfig.from_hf({**document, "cache": {"folder": "cache"}})
    model = Path("m")
    assert cache_folder(Settings(model=model), without) is None
    assert cache_folder(Settings(model=model), own) == Path("m/cache")
    assert cache_folder(Settings(model=model, cache="none"), own) is None
    assert cache_folder(Settings(model=model, cache="other"), own) == Path("other")
    with pytest.raises(CacheError, match="not supported yet"):
        cache_folder(Settings(model=model, cache="http://host:1"), own)


def test_device() -> None:
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("auto") in ("cpu", "cuda")


async def test_description_and_readiness(stages: Stages) -> None:
    assert stages.missing() is None
    assert stages.description["cache"] is True
    assert "vision" in stages.description["encoders"]
    provenance = stages.description["provenance"]
    assert provenance["stage"] == "finetune"
    assert all(source["licence"] and source["sha256"] for source in provenance["sources"])
    json.dumps(stages.description)
    stages.encoder.close()
    assert stages.missing() == "the encoders stopped"


async def test_a_missing_cache_stops_the_start(
    settings: Settings, document: dict[str, object], tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"cache": "nowhere"})
    with pytest.raises(CacheError, match="nowhere"):
        await Stages.open(settings, BindServeConfig.from_hf(document), tmp_path)
