"""Fixtures: the components of a server and of its encoding service, opened on a converted model."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvloop

from model_ext.config import BindServeConfig
from server.api.components import Components
from server.encoding.client import EncodingClient
from server.encoding.components import EncodingComponents
from server.encoding.messages import SOCKET
from server.encoding.service import EncodingService
from server.settings import Settings


def pytest_asyncio_loop_factories() -> dict[str, object]:
    """Run async tests on uvloop, as the server does.

    uvloop and asyncio behave differently when the other end of a pipe closes.
    """
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
async def parts(settings: Settings, tmp_path: Path) -> AsyncIterator[EncodingComponents]:
    """The components of an encoding service that runs in this process, with a socket in
    tmp_path.
    """
    parts = await EncodingComponents.open(settings)
    running = asyncio.ensure_future(EncodingService(parts, tmp_path / SOCKET).run())
    yield parts
    running.cancel()
    await asyncio.wait([running])
    await parts.close()


@pytest.fixture
async def components(
    settings: Settings,
    tmp_path: Path,
    parts: EncodingComponents,  # noqa: ARG001
) -> AsyncIterator[Components]:
    config = json.loads((settings.model / "config.json").read_text())
    encoders = EncodingClient(tmp_path / SOCKET)
    components = await Components.open(
        settings, BindServeConfig.from_hf(config), tmp_path, encoders
    )
    yield components
    await components.close()
