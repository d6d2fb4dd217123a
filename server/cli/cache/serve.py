"""`bindserve cache serve`: run a retrieval service, which searches one index for many servers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from server.logs import fail


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def serve(
    folder: Annotated[Path, typer.Argument(help="A cache folder.")],
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Addresses other than loopback require --token-file."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8100,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with a token, on one line. Requests to all paths except /health and /ready "
            "then need this token."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="FAISS threads per batch.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Queries searched together.")] = 64,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Number of queries that may wait; further queries get 503.")
    ] = 1024,
    drain_seconds: Annotated[
        int, typer.Option(min=0, help="Seconds to finish running requests after SIGTERM.")
    ] = 30,
    verify: Annotated[
        bool,
        typer.Option(
            help="Check the sha256 of all files at the start, for which all files are read."
        ),
    ] = True,
    device: Annotated[
        Device, typer.Option(help="`auto` searches on the GPU if there is one.")
    ] = Device.auto,
    gpu_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="GPU memory for the vectors. Default: half of the free memory."),
    ] = None,
) -> None:
    """Serve a cache to any number of servers (`bindserve serve MODEL --cache URL`).

    Several services can each serve a shard of the rows; `--cache URL,URL` merges their neighbors
    exactly. After `cache add` or a new build in the same folder, POST /v1/reload opens the new
    version without losing a request. GET /metrics returns Prometheus metrics.
    """
    from cache_index.device import Placement
    from cache_index.errors import CacheError
    from cache_index.service import serve as serve_cache
    from cache_index.token import read_token

    try:
        serve_cache(
            folder,
            host=host,
            port=port,
            token=read_token(token_file) if token_file else None,
            threads=threads,
            max_batch=max_batch,
            max_waiting=max_waiting,
            drain_seconds=drain_seconds,
            verify=verify,
            placement=Placement(device.value, gpu_bytes),
        )
    except (CacheError, OSError) as error:
        fail(str(error), code=1)
