"""The retrieval service as Ray replicas, each with the whole index.

The service has the HTTP interface of `bindserve cache serve` under the path of its application.
Servers send requests to it through Ray's proxy on their machine, with the setting
`cache: http://127.0.0.1:8000/retrieval`.
"""

from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from cache_index.device import Device, Placement
from cache_index.index import CacheIndex
from cache_index.metrics import CacheMetrics
from cache_index.owner import IndexOwner
from cache_index.service import create_app
from cache_index.token import read_token


class Arguments(BaseModel):
    """The keys of `args:` in the YAML. They are options of `bindserve cache serve`."""

    folder: Path
    token_file: Path
    threads: int = 1  # Number of threads that search.
    max_batch: int = 64  # Maximum number of queries in one search.
    max_waiting: int = 1024  # Maximum length of the queue; a full queue rejects with 503.
    device: Device = "auto"
    gpu_bytes: int | None = None  # GPU memory for the vectors; default: half of the free memory


@serve.deployment
@serve.ingress()
class Retrieval:
    def __init__(self, arguments: Arguments) -> None:
        self._token = read_token(arguments.token_file)
        self._metrics = CacheMetrics()
        self._owner = IndexOwner(
            CacheIndex.open(
                arguments.folder, placement=Placement(arguments.device, arguments.gpu_bytes)
            ),
            max_batch=arguments.max_batch,
            max_waiting=arguments.max_waiting,
            threads=arguments.threads,
            observe=self._metrics.batch,
        )

    def __serve_build_asgi_app__(self) -> Starlette:
        return create_app(self._owner, self._metrics, token=self._token)


def build(arguments: Arguments) -> Application:
    """Build the application that deploy/ray/serve.yaml names."""
    application: Application = cast(Any, Retrieval).bind(arguments)
    return application
