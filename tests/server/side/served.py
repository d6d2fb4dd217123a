"""An application with real experts and a real encoding service. Only the engine is a fake."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from model_ext.prompt import CHAT_TEMPLATE
from model_ext.side import SideModel
from server.api.components import text_only
from server.conditioning.conditioner import Conditioner
from server.conditioning.retrieve import Retriever
from server.encoding.client import EncodingClient
from server.encoding.messages import SOCKET
from server.side.catalog import socket_path
from server.side.client import SideClient
from server.side.experts import Experts
from server.side.service import SideService
from tests.server.application import Served, serve


@dataclass
class Words:
    """A tokenizer whose tokens are characters."""

    chat_template: str = CHAT_TEMPLATE

    @property
    def backend_tokenizer(self) -> "Words":
        return self

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return SimpleNamespace(offsets=[(at, at + 1) for at in range(len(text))])


@asynccontextmanager
async def side_model(name: str, model: SideModel, folder: Path) -> AsyncIterator[SideClient]:
    """Run the service of a side model in this process, and open a client for it."""
    running = asyncio.ensure_future(SideService(name, model, socket_path(folder, name), 64).run())
    client = SideClient(name, socket_path(folder, name), cache_bytes=1 << 20)
    try:
        await client.state()
        yield client
    finally:
        await client.close()
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def application(
    folder: Path, models: Mapping[str, SideModel | None], *keys: str, **options: Any
) -> AsyncIterator[Served]:
    """Open the application. `folder`: the folder of an encoding service's socket, if there is one.
    `models`: the side models by name; None means that the process is down. `options`: options of
    `Experts`.
    """
    async with AsyncExitStack() as stack:
        sides: dict[str, SideClient] = {}
        for name, model in models.items():
            if model is None:
                sides[name] = SideClient(name, socket_path(folder, name))
                stack.push_async_callback(sides[name].close)
            else:
                sides[name] = await stack.enter_async_context(side_model(name, model, folder))
        served = serve(*keys)
        served.components.sides = sides
        if (folder / SOCKET).exists():
            encoders = EncodingClient(folder / SOCKET)
            stack.push_async_callback(encoders.close)
            hello, zero_image = await encoders.hello()
            served.components.conditioner = Conditioner(
                encoders,
                Retriever(None),
                encoders=hello.encoders,
                text_only=text_only(zero_image),
            )
            served.components.encoders = encoders  # type: ignore[assignment]
            served.components.experts = Experts(sides, encoders, **options)
        served.handler.chat_template = None  # type: ignore[attr-defined]
        served.engine.renderer = SimpleNamespace(tokenizer=Words())  # type: ignore[attr-defined]
        yield served
