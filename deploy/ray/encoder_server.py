"""The server replica of a model that has only encoders: the application without vLLM."""

from contextlib import AsyncExitStack, nullcontext
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deploy.ray.checks import check_settings
from deploy.ray.encoders import Handle, RayEncoders
from deploy.ray.scratch import scratch
from server.api.app import open_application
from server.api.encoders_alone import NoEngine
from server.api.launch import encoder_flags
from server.settings import Settings


@serve.deployment
@serve.ingress()
class EncoderServer:
    # Ray awaits this method, so it can be a coroutine.
    async def __init__(self, settings: dict[str, Any], encoder: DeploymentHandle) -> None:  # type: ignore[misc]
        loaded = Settings.load(**settings)
        check_settings(loaded)
        encoders = RayEncoders(
            Handle(encoder), loaded.embedding_cache_bytes, share_results=loaded.share_results
        )
        self._open = AsyncExitStack()
        self._application = await self._open.enter_async_context(
            open_application(
                loaded,
                encoder_flags.parse(loaded),
                nullcontext(NoEngine()),
                encoders,
                scratch(loaded),
            )
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._application.app

    async def __del__(self) -> None:
        await self._open.aclose()
