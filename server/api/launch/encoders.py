"""Start and stop the API process of a model without a language model. Does not import vLLM."""

import asyncio
import contextlib
import logging
import socket
from argparse import Namespace
from contextlib import nullcontext
from types import FrameType
from typing import Any

import uvicorn
import uvloop

from server import logs
from server.api.app import open_application
from server.api.embedding.weaviate import open_weaviate
from server.api.encoders_alone import NoEngine
from server.api.launch import encoder_flags
from server.api.limits.headers import limited_protocol
from server.encoding.client import EncodingClient
from server.encoding.messages import SOCKET
from server.metrics import RESTARTS, STALLED
from server.process.control import Address, Parent, alive, serving
from server.process.heap import freeze_objects
from server.process.resident import resident_bytes
from server.settings import Settings

logger = logging.getLogger(__name__)

BACKLOG = 2048
WATCH_S = 0.02
REPORT_S = 1


def run_api(parent: Parent) -> None:
    """Serve requests until the process receives a signal."""
    logs.configure()
    args = encoder_flags.parse(parent.settings)
    address, listener = listen(parent, args)
    uvloop.run(serve(parent, args, address, listener))


def listen(parent: Parent, args: Namespace) -> tuple[Address, socket.socket]:
    """Open the listening socket.

    After a restart, use the socket that the parent kept open.

    Raises OSError: when the socket cannot be opened.
    """
    if parent.socket is not None and parent.address is not None:
        return parent.address, parent.socket
    tls = bool(args.ssl_keyfile)
    if args.uds:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(args.uds)
        url = f"unix:{args.uds}"
    else:
        family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((args.host, args.port))
        host = f"[{args.host}]" if ":" in args.host else args.host or "0.0.0.0"
        url = f"http{'s' if tls else ''}://{host}:{listener.getsockname()[1]}"
    listener.listen(BACKLOG)
    address = Address(url, tls, args.shutdown_timeout)
    parent.listening(listener, address)
    return address, listener


async def serve(parent: Parent, args: Namespace, address: Address, listener: socket.socket) -> None:
    """Open the application, answer requests until a signal arrives, and close it."""
    settings = parent.settings
    engine = NoEngine()
    encoders = EncodingClient(
        parent.scratch / SOCKET,
        share_results=settings.share_results,
        stall_s=settings.stall_s,
    )
    async with (
        open_application(
            settings, args, nullcontext(engine), encoders, parent.scratch
        ) as application,
        open_weaviate(application.app, settings),
    ):
        RESTARTS.set(parent.restarts)
        freeze_objects()
        logger.info("bindserve serves %s on %s", settings.name, address.url)
        logger.info("resident memory of the API process: %d MiB", resident_bytes() >> 20)
        server = Server(uvicorn.Config(application.app, **options(args, settings)), engine)
        reporter = asyncio.ensure_future(report(server, encoders, parent))
        try:
            await server.serve(sockets=[listener])
        finally:
            reporter.cancel()


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, engine: NoEngine) -> None:
        super().__init__(config)
        self._engine = engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On a signal, reject new requests on open connections. Running requests can finish."""
        self._engine.draining = True
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Handle signals. uvicorn's own method sends the signals to this process again after the
        server has stopped; this method does not.
        """
        with super().capture_signals():
            yield
            self._captured_signals.clear()


async def report(server: uvicorn.Server, encoders: EncodingClient, parent: Parent) -> None:
    """Report to the supervisor that the server is ready, and then every second that it still
    runs.
    """
    while not server.started:
        await asyncio.sleep(WATCH_S)
    serving(parent.control)
    while True:
        STALLED.labels("encoding").set(encoders.stalled_s())
        alive(parent.control, 0)
        await asyncio.sleep(REPORT_S)


def options(args: Namespace, settings: Settings) -> dict[str, Any]:
    return {
        "http": limited_protocol(settings),
        "forwarded_allow_ips": list(settings.trusted_proxies),
        "ws": "none",
        "log_level": args.uvicorn_log_level,
        "access_log": not (args.disable_uvicorn_access_log or settings.request_log),
        "timeout_graceful_shutdown": args.shutdown_timeout,
        "ssl_keyfile": args.ssl_keyfile,
        "ssl_certfile": args.ssl_certfile,
        "ssl_ca_certs": args.ssl_ca_certs,
        "ssl_cert_reqs": args.ssl_cert_reqs,
    }
