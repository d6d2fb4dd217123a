"""Server: a replica with vLLM's engine and our whole application, encoders apart.

The application is the one of `bindserve serve`; only where embeddings come from differs.
"""

import json
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle
from vllm.entrypoints.launchers.api_server.app_state import init_app_state

from deploy.ray.encoders import Handle, RayEncoders
from model_ext.config import BindServeConfig
from server.api.app import create_app
from server.api.components import Stages
from server.api.launch import open_engine
from server.api.middleware.auth import Keys
from server.engine import flags as vllm_args
from server.settings import Settings


@serve.deployment
@serve.ingress()
class Server:
    async def __init__(self, settings: dict[str, Any], encoder: DeploymentHandle) -> None:  # type: ignore[misc]  # Ray awaits it
        self._settings = Settings.load(**settings)
        self._open = AsyncExitStack()
        args = vllm_args.parse(self._settings)
        args.bindserve = self._settings
        document = json.loads((self._settings.model / "config.json").read_bytes())
        encoders = RayEncoders(Handle(encoder), self._settings.embedding_cache_bytes)
        stages = await Stages.open(
            self._settings, BindServeConfig.from_hf(document), scratch(self._settings), encoders
        )
        self._open.push_async_callback(stages.close)
        self._engine = await self._open.enter_async_context(open_engine(args, None))
        self._engine.max_tokens = self._settings.max_tokens
        keys = Keys(vllm_args.api_keys(args), self._settings.api_key_file)
        self._app = create_app(self._settings, args, stages, keys)
        tasks = await self._engine.get_supported_tasks()
        await init_app_state(self._engine, self._app.state, args, tasks)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Ray replaces a replica whose engine died, which is final."""
        if self._engine.errored:
            raise RuntimeError("the engine is down")

    async def __del__(self) -> None:
        await self._open.aclose()


def scratch(settings: Settings) -> Path:
    """Clients' files: one folder for all replicas, on a file system that they share if there are
    several machines (`upload_folder`)."""
    folder = (settings.upload_folder or Path(tempfile.gettempdir())) / "bindserve-ray"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
