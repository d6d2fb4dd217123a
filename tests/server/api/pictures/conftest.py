"""The application with the drawing service and a small random flow, in the tests' process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from model_ext.conditioning import Vector
from model_ext.decoders.drawer import Drawer
from model_ext.decoders.flow_config import FlowConfig
from model_ext.decoders.flow_decoder import FlowDecoder
from model_ext.side import SideData, Task
from server.conditioning.conditioner import Conditioner
from server.encoding.cache import ResultCache
from server.encoding.embedder import Embedder
from server.side.catalog import PICTURES, socket_path
from server.side.client import SideClient
from server.side.service import SideService
from tests.model_ext.decoders.conftest import random_flow
from tests.server.api.exchanges import answer
from tests.server.application import TEXT_ONLY, Served, serve
from tests.server.conditioning.test_conditioner import Fake, InProcess


class FakeWithPrenorm(Fake):
    """Fake encoders. The text "90" gets the unit vector at 90 degrees. The vector for the decoder
    has the same direction and length 3.
    """

    async def encode(self, encoder: str, tensor: torch.Tensor, client: str) -> Vector:
        vector = await super().encode(encoder, tensor, client)
        return np.concatenate([vector, 3 * vector[:2]])


SIZES = FlowConfig(
    embed_dim=2, side=8, components=10, width=16, blocks=2, condition_width=8, steps=4
)


class Recorder(Drawer):
    """The drawing side model, which also records the conditions and the documents of its tasks."""

    def __init__(self) -> None:
        super().__init__(FlowDecoder(random_flow(SIZES)), max_batch=4)
        self.conditions: list[list[float]] = []
        self.documents: list[dict[str, object]] = []
        self.error: Exception | None = None

    def run(self, tasks: Sequence[Task]) -> list[SideData]:
        if self.error is not None:
            raise self.error
        self.conditions += [task.data.arrays["embedding"].round(4).tolist() for task in tasks]
        self.documents += [task.data.document for task in tasks]
        return super().run(tasks)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def drawing(tmp_path: Path, recorder: Recorder) -> AsyncIterator[Served]:
    """The application with a decoder that draws pictures from embeddings of 2 numbers."""
    path = socket_path(tmp_path, PICTURES.name)
    service = asyncio.ensure_future(SideService(PICTURES.name, recorder, path, 8).run())
    client = SideClient(PICTURES.name, path)
    await client.state()
    served = serve(max_picture_pixels=64 * 64)
    served.handler.answer = answer()
    served.components.sides = {PICTURES.name: client}
    fake, encoders = FakeWithPrenorm(), ("vision", "audio", "text")
    served.components.conditioner = Conditioner(
        InProcess(Embedder(fake, fake, encoders, ResultCache(1 << 20), prenorm=True)),
        served.components.retriever,
        encoders=encoders,
        text_only=TEXT_ONLY,
        prenorm_length=5,
    )
    async with served.client:
        yield served
    await client.close()
    service.cancel()
    await asyncio.wait([service])
