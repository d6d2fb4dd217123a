"""The server replica: vLLM's engine and the application of `bindserve serve`.

The only difference to `bindserve serve` is that encoder replicas compute the embeddings.
"""

from contextlib import AsyncExitStack
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deploy.ray.checks import check_settings
from deploy.ray.encoders import Handle, RayEncoders
from deploy.ray.scratch import scratch
from server.api.app import open_application
from server.api.launch.engine import open_engine
from server.engine import flags
from server.settings import Settings


@serve.deployment
@serve.ingress()
class Server:
    # Ray awaits this method, so it can be a coroutine.
    async def __init__(self, settings: dict[str, Any], encoder: DeploymentHandle) -> None:  # type: ignore[misc]
        loaded = Settings.load(**settings)
        check_settings(loaded)
        args = flags.parse(loaded)
        args.bindserve = loaded
        self._open = AsyncExitStack()
        self._application = await self._open.enter_async_context(
            open_application(
                loaded,
                args,
                open_engine(args, None),
                RayEncoders(
                    Handle(encoder),
                    loaded.embedding_cache_bytes,
                    share_results=loaded.share_results,
                ),
                scratch(loaded),
            )
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._application.app

    def check_health(self) -> None:
        """Raise RuntimeError if the engine died. Ray then replaces this replica."""
        if self._application.engine.errored:
            raise RuntimeError("the engine is down")

    async def __del__(self) -> None:
        await self._open.aclose()
