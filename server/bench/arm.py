"""One side of a comparison, as a process: `python -m server.bench.arm KIND MODEL`.

ours, vllm: the whole application over the mock engine. bare: FastAPI that streams as many events.
starlette: an application that writes uploads to disk, and nothing else. Each prints its port when
it serves, and tells at /bench/lag how late its event loop was.
"""

import asyncio
import json
import socket
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import AsyncIterator
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
from server.api.app import create_app
from server.api.components import Stages, file_limits, form_limits
from server.api.middleware.auth import Keys
from server.api.multipart import Uploads
from server.bench.mock_engine import ConditionedMockLLM, MockLLM
from server.conditioning.conditioner import Conditioner
from server.conditioning.retrieve import Retriever
from server.engine import flags as vllm_args
from server.errors import Unavailable
from server.media.attachments import AttachmentLimits
from server.media.blob import Content
from server.media.files import FileStore
from server.settings import Settings

TICK_S = 0.005
TASKS: Any = ("generate",)
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
    """In place of the encoding service: the load attaches nothing that needs it."""

    async def embed(self, modality: str, content: Content) -> Vector:
        raise Unavailable(f"no encoders here: {modality}, {content.size} bytes")

    def missing(self) -> None:
        return None


class Lag:
    """How late a timer of the event loop comes, and who asks gets the 99th percentile."""

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


async def ours(settings: Settings, args: Namespace, config: Any, scratch: Path) -> ASGIApp:
    engine = ConditionedMockLLM(config, *mock_options())
    app = create_app(settings, args, stages(settings, scratch), Keys())
    await init_app_state(engine, app.state, args, TASKS)
    return app


async def vllm(args: Namespace, config: Any) -> ASGIApp:
    engine = MockLLM(config, *mock_options())
    app = build_app(args, TASKS, engine.model_config)
    await init_app_state(engine, app.state, args, TASKS)
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


def stages(settings: Settings, scratch: Path) -> Stages:
    config = BindServeConfig.from_hf(json.loads((settings.model / "config.json").read_bytes()))
    dim = config.imagebind.embedding_dim
    nobody: Any = NoEncoders()
    files, retriever = FileStore(scratch, file_limits(settings)), Retriever(None)
    text_only = np.full(dim, dim**-0.5, np.float32)
    return Stages(
        nobody,
        retriever,
        Conditioner(nobody, retriever, encoders=("vision",), text_only=text_only),
        files,
        Uploads(files.incoming, form_limits(settings), settings.max_uploads),
        AttachmentLimits(settings.max_attachments, settings.limits, dim),
        {},
    )


def mock_options() -> tuple[int, float]:
    """Seats and seconds a token, from the command line."""
    return (int(sys.argv[3]), float(sys.argv[4])) if len(sys.argv) > 3 else (0, 0.0)


async def main(kind: str, model: Path) -> None:
    settings = Settings.load(model=model, cache="none", vllm_args=("--enforce-eager",))
    with tempfile.TemporaryDirectory() as scratch:
        if kind in ("ours", "vllm"):
            args = vllm_args.parse(settings)
            engine_args = AsyncEngineArgs.from_cli_args(args)
            config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
            if kind == "ours":
                app = await ours(settings, args, config, Path(scratch))
            else:
                app = await vllm(args, config)
        else:
            app = bare() if kind == "bare" else starlette(Path(scratch))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            served = uvicorn.Config(Lag(app), access_log=False, log_level="error", lifespan="off")
            print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
            await uvicorn.Server(served).serve([listener])


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2])))
