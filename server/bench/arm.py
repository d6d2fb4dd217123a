"""Run one of the servers that `bindserve bench server` compares: `python -m server.bench.arm KIND
MODEL`.

KIND is `bindserve` or `vllm` (the whole application on a mock engine), `bare` (a FastAPI
application that streams the same number of events) or `starlette` (an application that only writes
uploads to disk). Each server prints its port when it is ready, and reports the lag of its event
loop at /bench/lag.
"""

import asyncio
import json
import socket
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.usage.usage_lib import UsageContext

from model_ext.conditioning import Vector
from model_ext.config import BindServeConfig
from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.side import Array
from server.api.app import open_application
from server.bench.mock_engine import ConditionedMockLLM, MockLLM
from server.encoding.messages import Hello
from server.encoding.view import View
from server.engine import flags as vllm_args
from server.errors import Unavailable
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.settings import Settings

TICK_S = 0.005
EVENT = {
    "id": "chatcmpl-0",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "m",
    "choices": [
        {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    ],
}


class NoEncoders:
    """Replaces the encoding service, because the benchmark's requests have no attachments to
    encode.
    """

    def __init__(self, embedding_dim: int) -> None:
        self._dim = embedding_dim

    async def hello(self) -> tuple[Hello, Vector]:
        return Hello(["vision"]), np.full(self._dim, self._dim**-0.5, np.float32)

    async def embed(self, modality: str, content: Blob, options: ReadOptions) -> Embedded:  # noqa: ARG002
        raise Unavailable(f"no encoders here: {modality}, {content.size} bytes")

    async def decode(self, view: str, modality: str, content: Blob) -> Array:
        raise Unavailable(f"no encoders here: {view} of {modality}, {content.size} bytes")

    async def view(self, view: str, modality: str, content: Blob) -> View:
        raise Unavailable(f"no encoders here: {view} of {modality}, {content.size} bytes")

    def missing(self) -> None:
        return None

    async def close(self) -> None:
        return None


class Lag:
    """Measures the lag of the event loop: how late it runs timers. /bench/lag reports the 99th
    percentile.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.late: list[float] = []
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.task is None:
            self.task = asyncio.ensure_future(self._tick())
        if scope["type"] == "http" and scope["path"] == "/bench/lag":
            p99 = float(np.percentile(self.late or [0.0], 99))
            self.late.clear()
            return await JSONResponse({"p99_s": p99})(scope, receive, send)
        await self.app(scope, receive, send)

    async def _tick(self) -> None:
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late.append(time.perf_counter() - due)


@asynccontextmanager
async def bindserve(
    settings: Settings, args: Namespace, config: Any, scratch: Path
) -> AsyncIterator[ASGIApp]:
    dim = BindServeConfig.from_hf(config.model_config.hf_config.to_dict()).imagebind.embedding_dim
    engine = nullcontext(ConditionedMockLLM(config, *mock_options()))
    async with open_application(settings, args, engine, NoEncoders(dim), scratch) as application:
        yield application.app


async def vllm(args: Namespace, config: Any) -> ASGIApp:
    engine = MockLLM(config, *mock_options())
    app = build_app(args, await engine.get_supported_tasks(), engine.model_config)
    await init_app_state(engine, app.state, args, await engine.get_supported_tasks())
    return app


def bare() -> ASGIApp:
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        body = await request.json()

        async def events() -> AsyncIterator[str]:
            for _ in range(body["max_tokens"]):
                await asyncio.sleep(0)
                yield f"data: {json.dumps(EVENT)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


def starlette(scratch: Path) -> ASGIApp:
    async def upload(request: Request) -> JSONResponse:
        async with request.form() as form:
            upload: Any = form["file"]
            with tempfile.NamedTemporaryFile(dir=scratch) as file:
                while piece := await upload.read(1 << 20):
                    await asyncio.to_thread(file.write, piece)
        return JSONResponse({"id": "file"})

    return Starlette(routes=[Route("/v1/files", upload, methods=["POST"])])


def mock_options() -> tuple[int, float]:
    """Read the mock engine's options from the command line: `seats` (the number of requests that
    generate concurrently) and the seconds per token.
    """
    return (int(sys.argv[3]), float(sys.argv[4])) if len(sys.argv) > 3 else (0, 0.0)


async def main(kind: str, model: Path) -> None:
    settings = Settings.load(model=model, cache="none", vllm_args=("--enforce-eager",))
    with tempfile.TemporaryDirectory() as scratch:
        if kind in ("bindserve", "vllm"):
            args = vllm_args.parse(settings)
            engine_args = AsyncEngineArgs.from_cli_args(args)
            config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
            if kind == "bindserve":
                return await serve(bindserve(settings, args, config, Path(scratch)))
            return await serve(nullcontext(await vllm(args, config)))
        return await serve(nullcontext(bare() if kind == "bare" else starlette(Path(scratch))))


async def serve(application: AbstractAsyncContextManager[ASGIApp]) -> None:
    """Print the port, then serve until the process is killed."""
    async with application as app:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            served = uvicorn.Config(Lag(app), access_log=False, log_level="error", lifespan="off")
            print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
            await uvicorn.Server(served).serve([listener])


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
