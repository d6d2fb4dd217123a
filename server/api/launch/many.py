"""Run several API processes with one engine, under vLLM's process management.

The API processes share the encoding service and the scratch folder with clients' files.
"""

import asyncio
import signal
import socket
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NoReturn

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.utils import bind_engine_zmq_listeners, launch_core_engines
from vllm.v1.executor import Executor
from vllm.v1.metrics.prometheus import setup_multiprocess_prometheus
from vllm.v1.utils import APIServerProcessManager, wait_for_completion_or_failure

from model_ext.engine.adapter import adapt
from server.api.launch import memory

# The type of an API process's main function: (listen_address, socket, args, client_config).
Target = Callable[[str, Any, Namespace, dict[str, Any]], None]


def run_api_processes(
    args: Namespace, listen_address: str, sock: socket.socket, target: Target
) -> None:
    """Serve requests until this process receives a signal or one of the API processes ends."""
    count: int = args.api_server_count
    setup_multiprocess_prometheus()  # before the API processes import prometheus_client
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, exit_on_signal)
    asyncio.run(memory.fit_many(args))
    engine_args = AsyncEngineArgs.from_cli_args(args)
    engine_args._api_process_count, engine_args._api_process_rank = count, -1
    config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    adapt(config)
    listeners = bind_engine_zmq_listeners(config, count)
    with launch_core_engines(
        config,
        Executor.get_class(config),
        not engine_args.disable_log_stats,
        listeners.addresses,
    ) as launched:
        coordinator = launched.coordinator
        manager = APIServerProcessManager(
            listen_address=listen_address,
            sock=sock,
            args=args,
            num_servers=count,
            input_listeners=listeners.inputs,
            output_listeners=listeners.outputs,
            target_server_fn=target,
            stats_update_address=coordinator and coordinator.get_stats_publish_address(),
            tensor_queue=launched.tensor_queue,
        )
        launched.watched_frontend_processes = manager.processes
    try:
        wait_for_completion_or_failure(
            api_server_manager=manager,
            engine_manager=launched.engine_manager,
            coordinator=coordinator,
        )
    finally:  # Stop the API processes, so that they finish their requests, and then the engine.
        until = time.monotonic() + config.shutdown_timeout
        for part in (manager, launched.engine_manager, coordinator):
            if part is not None:
                part.shutdown(timeout=max(until - time.monotonic(), 1))


def exit_on_signal(*_: object) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the shutdown
    raise SystemExit(0)
