"""Start and stop one API process: from the settings to a server that answers requests.

vLLM's code manages processes, sockets, TLS and draining. This module replaces vLLM's engine client
by `ConditionedLLM`, and vLLM's application by that of `open_application`.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import uvloop
from fastapi import FastAPI
from vllm import envs
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.launcher import (
    serve_http,
    setup_server,
    validate_api_server_args,
)
from vllm.entrypoints.launchers.utils.server_utils import get_uvicorn_log_config
from vllm.entrypoints.serve.utils.api_utils import cli_env_setup
from vllm.logger import configure_logging_from_args
from vllm.usage.usage_lib import UsageContext
from vllm.utils.system_utils import decorate_logs, set_process_title, set_ulimit

from model_ext.engine.adapter import adapt
from model_ext.engine.step_clock import StepClock
from server.api.app import open_application
from server.api.components import Encoders
from server.api.embedding.weaviate import open_weaviate
from server.api.launch import memory
from server.api.launch.many import run_api_processes
from server.api.limits.headers import limited_protocol
from server.encoding.client import EncodingClient
from server.encoding.messages import SOCKET
from server.engine import flags
from server.engine.llm import ConditionedLLM
from server.metrics import RESTARTS, STALLED
from server.process.control import Address, Parent, alive, serving
from server.settings import Settings

logger = logging.getLogger(__name__)

ENGINE_DIED = 3  # the exit code after the engine has died
WATCH_S = 0.1
REPORT_S = 1
# Name of a file in the server's private folder, to which the engine writes the time of its last
# step.
STEP_FILE = "engine-step"
# When the server stops, requests that do not need the engine have this many seconds to finish.
FINISH_S = 2


def run_api(parent: Parent) -> None:
    """Serve requests until the process receives a signal."""
    cli_env_setup()
    settings = parent.settings
    args = flags.parse(settings)
    configure_logging_from_args(args)
    # vLLM copies `args`, with these two values, to every API process.
    args.bindserve, args.bindserve_scratch = settings, parent.scratch
    args.bindserve_control, args.bindserve_restarts = parent.control, parent.restarts
    # The engine's processes start later and inherit the path of the clock's file.
    StepClock.create(parent.scratch / STEP_FILE)
    memory.check_early(args)
    listen_address, sock = listen(parent, args)
    if args.api_server_count > 1:
        return run_api_processes(args, listen_address, sock, run_api_child)
    # uvicorn later replaces this handler.
    signal.signal(signal.SIGTERM, interrupt)
    uvloop.run(run_api_process(listen_address, sock, args))


def listen(parent: Parent, args: Namespace) -> tuple[str, socket.socket]:
    """Return the address and the listening socket.

    After a restart, the parent process passes the socket that it kept open, in which requests have
    waited.
    """
    if parent.socket is not None and parent.address is not None:
        validate_api_server_args(args)
        set_ulimit()
        return parent.address.url, parent.socket
    url, sock = setup_server(args, reuse_port=False)
    tls = bool(args.ssl_keyfile)
    parent.listening(sock, Address(url, tls, args.shutdown_timeout))
    return url, sock


def run_api_child(
    listen_address: str, sock: socket.socket, args: Namespace, client_config: dict[str, Any]
) -> None:
    """The main function of each API process, if vLLM starts several API processes."""
    set_process_title("APIServer", str(client_config["client_index"]))
    configure_logging_from_args(args)
    signal.signal(signal.SIGTERM, interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run_api_process(listen_address, sock, args, client_config))


def interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt("terminated")


async def run_api_process(
    listen_address: str,
    sock: socket.socket,
    args: Namespace,
    client_config: dict[str, Any] | None = None,
) -> None:
    """Run one API process: open its components, its engine client and its application,
    and serve.
    """
    settings: Settings = args.bindserve
    decorate_logs("APIServer", skip_if_decorated=True)
    log_like_vllm()
    client_config = dict(client_config or {})
    loads = client_config.pop("api_server_loads", None)
    peers = None if loads is None else (loads, client_config["client_index"])
    encoders = EncodingClient(
        args.bindserve_scratch / SOCKET,
        share_results=settings.share_results,
        stall_s=settings.stall_s,
    )
    engine = open_engine(args, client_config, encoders)
    try:
        async with (
            open_application(
                settings, args, engine, encoders, args.bindserve_scratch
            ) as application,
            open_weaviate(application.app, settings),
        ):
            RESTARTS.set(args.bindserve_restarts)
            logger.info("bindserve serves %s on %s", settings.name, listen_address)
            app, client = application.app, application.engine
            watcher = asyncio.ensure_future(watch(app, client, args.bindserve_control))
            reporter = asyncio.ensure_future(report(client, encoders, args.bindserve_control))
            shutdown = await serve_http(
                app, sock, args.enable_ssl_refresh, peers, **uvicorn_options(args)
            )
            watcher.cancel()
            reporter.cancel()
            if client.died:
                raise SystemExit(ENGINE_DIED)
            # `shutdown` waits for requests. Closing the engine ends them.
            await application.close_engine()
            await shutdown
    finally:
        sock.close()


async def watch(app: FastAPI, engine: ConditionedLLM, control: socket.socket) -> None:
    """Report to the supervisor that the server is ready. Stop the server when its engine dies."""
    while not (hasattr(app.state, "server") and app.state.server.started):
        await asyncio.sleep(WATCH_S)
    serving(control)
    while not engine.died:
        await asyncio.sleep(WATCH_S)
    logger.error("the engine died")
    await asyncio.sleep(WATCH_S)  # While this process ends, requests receive status 503.
    app.state.server.should_exit = True
    await asyncio.sleep(FINISH_S)
    app.state.server.force_exit = True


async def report(engine: ConditionedLLM, encoders: EncodingClient, control: socket.socket) -> None:
    """Report every second to the supervisor and to the metrics whether the engine makes
    progress.
    """
    while True:
        stalled_s = engine.stalled_s()
        STALLED.labels("engine").set(stalled_s)
        STALLED.labels("encoding").set(encoders.stalled_s())
        alive(control, stalled_s)
        await asyncio.sleep(REPORT_S)


@asynccontextmanager
async def open_engine(
    args: Namespace, client_config: dict[str, Any] | None, encoders: Encoders | None = None
) -> AsyncIterator[ConditionedLLM]:
    """Open the engine client as vLLM does, with two changes.

    The client is a ConditionedLLM. `adapt` configures the runner adapter, the code that passes
    embeddings to vLLM's model runner.
    """
    # `run_api_processes` has already divided the memory if there are several API processes.
    if not client_config:
        await memory.fit_to_card(args, encoders)
    engine_args = AsyncEngineArgs.from_cli_args(args)
    addresses = dict(client_config or {})
    count, index = addresses.pop("client_count", 1), addresses.pop("client_index", 0)
    if client_config:
        engine_args._api_process_count, engine_args._api_process_rank = count, index
    vllm_config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    adapt(vllm_config)
    engine = ConditionedLLM.from_vllm_config(
        vllm_config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        enable_log_requests=engine_args.enable_log_requests,
        aggregate_engine_logging=engine_args.aggregate_engine_logging,
        disable_log_stats=engine_args.disable_log_stats,
        client_addresses=addresses,
        client_count=count,
        client_index=index,
    )
    engine.max_tokens = args.bindserve.max_tokens
    engine.step_clock = StepClock.inherited()
    try:
        await engine.reset_mm_cache()  # this call waits for vLLM's background warm-up
        yield engine
    finally:
        engine.shutdown(timeout=vllm_config.shutdown_timeout)


def log_like_vllm() -> None:
    """Give this project's loggers the handlers and the level of vLLM's logger."""
    vllm_logger = logging.getLogger("vllm")
    for package in ("server", "model_ext", "cache_index"):
        package_logger = logging.getLogger(package)
        package_logger.handlers, package_logger.propagate = list(vllm_logger.handlers), False
        package_logger.setLevel(vllm_logger.level)


def uvicorn_options(args: Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {
        "host": args.host,
        "port": args.port,
        "http": limited_protocol(args.bindserve),
        "forwarded_allow_ips": list(args.bindserve.trusted_proxies),
        "log_level": args.uvicorn_log_level,
        "access_log": not (args.disable_uvicorn_access_log or args.bindserve.request_log),
        "timeout_keep_alive": envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE,
        "ssl_keyfile": args.ssl_keyfile,
        "ssl_certfile": args.ssl_certfile,
        "ssl_ca_certs": args.ssl_ca_certs,
        "ssl_cert_reqs": args.ssl_cert_reqs,
        "ssl_ciphers": args.ssl_ciphers,
        "h11_max_incomplete_event_size": args.h11_max_incomplete_event_size,
        "h11_max_header_count": args.h11_max_header_count,
    }
    log_config = get_uvicorn_log_config(args)
    return options if log_config is None else {**options, "log_config": log_config}
