"""The application with grounding. The decoding processes, the side service and the parser are real.
The engine is a fake, and the detector finds colors. All tests of this folder share one encoding
service and one parser.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from model_ext.grounding.nouns import NounParser
from model_ext.grounding.side import GroundingModel
from model_ext.side import SideModel
from tests.server.api.grounding.colors import ColorDetector
from tests.server.api.grounding.grounded import enable
from tests.server.application import Served
from tests.server.side.conftest import encoding
from tests.server.side.served import application

__all__ = ["encoding"]


@pytest.fixture(scope="package")
def parser() -> NounParser:
    return NounParser.load()


@pytest.fixture
def detector_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "detector"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "owlv2"}')
    return folder


@pytest_asyncio.fixture(loop_scope="package")
async def served(
    encoding: Path,
    parser: NounParser,
    detector_folder: Path,
) -> AsyncIterator[Served]:
    model: SideModel = GroundingModel(ColorDetector(), parser, "cpu")
    async with application(encoding, {"detector": model}) as served:
        yield enable(served, detector_folder)
