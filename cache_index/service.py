"""The retrieval service: a Starlette app that serves one index and batches concurrent requests.

Paths: POST /v1/enhance (`wire.py` describes the bodies), GET /v1/info, POST /v1/reload, /health,
/ready, /metrics. This module does not depend on models.
"""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cache_index.device import AUTO, Placement
from cache_index.enhance import CacheParams
from cache_index.errors import CacheBusy, CacheClosed, CacheError, QueryError
from cache_index.index import CacheIndex
from cache_index.loopback import is_loopback
from cache_index.metrics import CacheMetrics
from cache_index.owner import IndexOwner
from cache_index.token import TokenRequired
from cache_index.wire import CACHE, NEIGHBORS, EnhanceRequest, pack_row, unpack_query

OPEN_PATHS = ("/health", "/ready")
BODY_SECONDS = 10.0  # maximum seconds to read a request's body of about 4 kB
READY_SECONDS = 2.0


class Service:
    """The handlers."""

    def __init__(self, owner: IndexOwner, metrics: CacheMetrics) -> None:
        self._owner = owner
        self._metrics = metrics

    async def enhance(self, request: Request) -> Response:
        start = time.perf_counter()
        index = self._owner.index
        parameters = EnhanceRequest.unpack(request.query_params, index.manifest.defaults)
        query = unpack_query(await read_body(request, 4 * index.dimension), index.dimension)
        row = await self._owner.enhance(
            query,
            parameters.params,
            explain=parameters.explain,
            prototypes=parameters.prototypes,
        )
        self._metrics.answered(time.perf_counter() - start)
        headers = {NEIGHBORS: str(len(row.ids)), CACHE: index.manifest.name}
        return Response(pack_row(row, parameters), 200, headers, "application/octet-stream")

    async def info(self, _: Request) -> Response:
        """Return the manifest. A client uses it to check the encoder."""
        manifest = self._owner.index.manifest
        return JSONResponse(manifest.model_dump(mode="json"), headers={CACHE: manifest.name})

    async def reload(self, _: Request) -> Response:
        """Open the same cache folder again and serve its new content."""
        old = self._owner.index
        new = await asyncio.to_thread(
            CacheIndex.open,
            old.folder,
            expect_encoder=old.manifest.encoder,
            placement=old.placement,
        )
        self._owner.swap(new)
        return JSONResponse({"vectors": len(new)}, headers={CACHE: new.manifest.name})

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Respond with 200 if the owner's thread runs. This thread can end while the process still
        runs.
        """
        probe = np.zeros(self._owner.dimension, dtype=np.float32)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._owner.enhance(probe, CacheParams(top_k=1))
        except (TimeoutError, CacheBusy, CacheError):
            return JSONResponse({"status": "not ready"}, 503)
        return JSONResponse({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def on_error(self, _: Request, error: Exception) -> Response:
        status, code = status_of(error)
        self._metrics.refused(status)
        message = error.detail if isinstance(error, HTTPException) else str(error)
        headers = {"retry-after": "1"} if status == 503 else None
        return JSONResponse({"error": {"message": message, "code": code}}, status, headers)


def status_of(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException():
            return error.status_code, "request"
        case QueryError():
            return 400, "query"
        case CacheBusy():
            return 503, "cache_queue_full"
        case CacheClosed():
            return 503, "cache_closing"
    return 500, "cache_failed"


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes. Counts the bytes, because content-length may be wrong.

    Raises HTTPException: 413 for a longer body, 408 for a slow one.
    """
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"the body must have {limit} bytes")
    except TimeoutError:
        raise HTTPException(408, "the body did not arrive in time") from None
    return body


def create_app(owner: IndexOwner, metrics: CacheMetrics, *, token: str | None) -> Starlette:
    """Create the app for an open index.

    At shutdown, the app answers the waiting requests and closes the owner.
    """
    service = Service(owner, metrics)
    metrics.watch(owner)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await owner.aclose()

    return Starlette(
        routes=[
            Route("/v1/enhance", service.enhance, methods=["POST"]),
            Route("/v1/info", service.info),
            Route("/v1/reload", service.reload, methods=["POST"]),
            Route("/health", service.health),
            Route("/ready", service.ready),
            Route("/metrics", service.metrics),
        ],
        middleware=[Middleware(TokenRequired, token, OPEN_PATHS)] if token else [],
        exception_handlers=dict.fromkeys(
            (HTTPException, QueryError, CacheBusy, CacheError), service.on_error
        ),
        lifespan=lifespan,
    )


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8100,
    token: str | None = None,
    verify: bool = True,
    max_batch: int = 64,
    max_waiting: int = 1024,
    threads: int = 1,
    drain_seconds: int = 30,
    placement: Placement = AUTO,
) -> None:
    """Serve until SIGTERM.

    Then refuse new connections, and answer the running requests.

    Raises CacheError: when there is no token and other machines can reach the host.
    """
    if token is None and not is_loopback(host):
        raise CacheError(
            f"other machines can reach {host}, so the service needs a token: give a token file"
        )
    # After uvicorn has answered all requests, it restores this handler and sends SIGTERM again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    metrics = CacheMetrics()
    owner = IndexOwner(
        CacheIndex.open(folder, verify=verify, placement=placement),
        max_batch=max_batch,
        max_waiting=max_waiting,
        threads=threads,
        observe=metrics.batch,
    )
    uvicorn.run(
        create_app(owner, metrics, token=token),
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        limit_concurrency=2 * max_waiting,
        timeout_graceful_shutdown=drain_seconds,
    )
