"""The server replica: vLLM's engine and the application of `bindserve serve`.

The only difference to `bindserve serve` is that encoder replicas compute the embeddings.
"""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from deploy.ray.checks import check_settings
from deploy.ray.encoders import Handle, RayEncoders
from server.api.app import open_application
from server.api.launch.engine import open_engine
from server.engine import flags
from server.settings import Settings


@serve.deployment
@serve.ingress()
class Server:
    async def __init__(self, settings: dict[str, Any], encoder: DeploymentHandle) -> None:  # type: ignore[misc]  # Ray awaits it
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


def scratch(settings: Settings) -> Path:
    """Return the folder of clients' files, which all server replicas share.

    With several machines, the setting `upload_folder` must name a folder on a shared file system.
    """
    folder = (settings.upload_folder or Path(tempfile.gettempdir())) / "bindserve-ray"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
