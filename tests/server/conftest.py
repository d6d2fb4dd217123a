"""The stages of a server, opened on a converted model."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from model_ext.config import BindServeConfig
from server.settings import Settings
from server.stages import Stages


def pytest_asyncio_loop_factories() -> dict[str, object]:
    """As the server: uvloop's pipes are not asyncio's when their other end is gone."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def settings(tiny_models: dict[str, Path]) -> Settings:
    return Settings(
        model=tiny_models["finetune"],
        cache=str(tiny_models["knn.index"]),
        decode_workers=1,
        encode_threads=1,
    )


@pytest.fixture
async def stages(settings: Settings, tmp_path: Path) -> AsyncIterator[Stages]:
    config = json.loads((settings.model / "config.json").read_text())
    stages = await Stages.open(settings, BindServeConfig.from_hf(config), tmp_path)
    yield stages
    await stages.close()
