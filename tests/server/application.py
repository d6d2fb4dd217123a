"""The application for tests: real routes and middleware, with fakes of the engine and
the encoders.
"""

import tempfile
import weakref
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from vllm.entrypoints.openai.models.serving import ModelCard, ModelList

from model_ext.conditioning import pack
from model_ext.imagebind.preprocess.limits import Limits
from server.api.app import create_app
from server.api.components import file_limits, form_limits
from server.api.middleware.auth import Keys
from server.api.multipart import Uploads
from server.conditioning.retrieve import Retriever
from server.context import current
from server.encoding.windows import Cutter
from server.media.attachments import AttachmentLimits
from server.media.files import FileStore
from server.settings import Settings
from server.side.experts import Experts
from tests.server.conditioning.test_conditioner import Fake, conditioner

TEXT_ONLY = np.array([1, 0], np.float32)
FLAGS = {
    "disable_fastapi_docs": False,
    "root_path": None,
    "middleware": [],
    "enable_request_id_headers": False,
    "allowed_origins": [],
    "allow_credentials": False,
    "allowed_methods": ["*"],
    "allowed_headers": ["*"],
    "sse_keep_alive_interval": 0,
    "log_error_stack": False,
    "otlp_traces_endpoint": None,
}


@dataclass
class Engine:
    errored: bool = False
    draining: bool = False
    full: Exception | None = None
    seconds_stalled: float = 0

    def stalled_s(self) -> float:
        return self.seconds_stalled

    def check_admission(self, n: int = 1) -> None:
        assert n >= 1
        if self.full:
            raise self.full


@dataclass
class Components:
    components: Fake = field(default_factory=Fake)
    lost: str | None = None
    language_model: bool = True
    retriever: Retriever = field(default_factory=lambda: Retriever(None))

    def __post_init__(self) -> None:
        self.conditioner = conditioner(self.components, ("vision", "audio", "text"), self.retriever)
        self.attachment_limits = AttachmentLimits(4, Limits(), 2)
        self.text_only = pack(TEXT_ONLY)
        self.encoders = self  # `missing` is the only method that the application calls
        self.description = {"encoders": ["vision"]}
        self.sides: dict[str, Any] = {}
        self.experts = Experts(self.sides, self.components)
        self._folder = tempfile.TemporaryDirectory()
        weakref.finalize(self, self._folder.cleanup)

    def set(self, settings: Settings) -> None:
        self.files = FileStore(Path(self._folder.name), file_limits(settings))
        limits = form_limits(settings)
        self.cutter = Cutter(settings)
        self.uploads = Uploads(self.files.incoming, limits, settings.max_uploads)

    def missing(self) -> str | None:
        return self.lost


@dataclass
class Handler:
    """A fake of vLLM's handler, which records each request with its embedding and cache salt."""

    answer: Any = None
    seen: list[Any] = field(default_factory=list)
    embeddings: list[bytes] = field(default_factory=list)
    salts: list[str] = field(default_factory=list)

    async def create(self, request: Any, raw_request: Any) -> Any:
        assert raw_request is not None
        self.seen.append(request)
        self.embeddings.append(current().embedding)
        self.salts.append(current().key_salt)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    create_chat_completion = create_completion = create_responses = create_messages = create


class Models:
    def is_base_model(self, name: str) -> bool:
        return name == "tiny"

    async def show_available_models(self) -> ModelList:
        return ModelList(data=[ModelCard(id="tiny", root="/secret/folder", max_model_len=512)])


@dataclass
class Served:
    app: FastAPI
    engine: Engine
    components: Components
    handler: Handler
    client: httpx.AsyncClient


def serve(
    *keys: str,
    flags: dict[str, Any] | None = None,
    retriever: Retriever | None = None,
    **settings: Any,
) -> Served:
    components = Components(retriever=retriever or Retriever(None))
    engine, handler = Engine(), Handler()
    configured = Settings(model=Path("tiny"), **settings)
    components.set(configured)
    app = create_app(
        configured,
        Namespace(**{**FLAGS, **(flags or {})}),
        components,  # type: ignore[arg-type]
        Keys(keys),
        Keys(file=configured.metrics_key_file) if configured.metrics_key_file else None,
    )
    app.state.engine_client = engine
    app.state.openai_serving_chat = app.state.openai_serving_completion = handler
    app.state.openai_serving_responses = app.state.anthropic_serving_messages = handler
    app.state.openai_serving_models = Models()
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://test")
    return Served(app, engine, components, handler, client)


class Stamp:
    """An example of middleware that an operator adds."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-stamp", b"operator")]
            await send(message)

        await self.app(scope, receive, stamped)
