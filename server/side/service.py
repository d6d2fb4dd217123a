"""The process of a side model: `python -m server.side.service CONTROL NAME`.

The supervisor starts it and restarts it when it ends or stalls. Clients pass the descriptor of
their data; closing the connection cancels the task. The process runs at low priority, so that text
requests get the CPU first.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections import deque
from pathlib import Path

import uvloop

from model_ext.errors import ConfigError
from model_ext.side import Json, SideData, SideModel, Task
from server import logs
from server.errors import RequestError
from server.process import data_file
from server.process.child import die_with_parent
from server.process.control import Parent, alive, serving
from server.process.error_message import MessageError, describe_error
from server.process.local_socket import accept_all, listen, unless_disconnected
from server.side.catalog import named, socket_path
from server.side.messages import (
    MAX_PART,
    SidePart,
    SideRequest,
    SideResponse,
    SideState,
    SideWatch,
    encode,
    receive,
    send_file,
)
from server.side.work_queue import WorkQueue

logger = logging.getLogger(__name__)

NICE = 5  # Added to the nice value of the process, which lowers its priority.
REPORT_S = 1  # Seconds between two reports to the supervisor.
STATE_S = 0.25  # Seconds between two states.


class SideService:
    def __init__(self, name: str, model: SideModel, path: Path, max_waiting: int) -> None:
        """`path`: the path of the service's socket."""
        self.queue = WorkQueue(name, model, max_waiting)
        self._gpu_bytes = model.gpu_bytes
        self._batches: deque[int] = deque(maxlen=1000)
        self.queue.on_batch = self._batches.append
        self._socket = listen(path)

    async def run(self) -> None:
        """Accept connections until cancelled. Then cancel all tasks."""
        try:
            await accept_all(self._socket, self._serve)
        finally:
            self.queue.close()

    async def _serve(self, client: socket.socket) -> None:
        """Serve one connection. It carries one task, or one subscription to the state."""
        with client, contextlib.suppress(OSError, MessageError):
            message, descriptor = await receive(client)
            match message:
                case SideRequest() if descriptor is not None:
                    data = await data_file.loaded(descriptor)
                    await self._answer(client, message, data)
                case SideWatch():
                    await self._send_states(client)

    async def _answer(self, client: socket.socket, request: SideRequest, data: SideData) -> None:
        sender = Sender(client)
        task = Task(data, sender.emit)
        try:
            result = await unless_disconnected(client, self._result(task, request.client))
        except RequestError as error:
            await sender.flush()
            await sender.send(encode(SideResponse(describe_error(error))))
            return
        if result is not None:
            await sender.flush()
            await send_file(client, SideResponse(), await data_file.written(*result))

    async def _result(self, task: Task, client: str) -> SideData:
        try:
            return await asyncio.wrap_future(self.queue.submit(task, client))
        finally:
            task.cancelled = True  # the model reads this flag before each step, and stops

    async def _send_states(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batches = tuple(self._batches.popleft() for _ in range(len(self._batches)))
            state = SideState(self._gpu_bytes, len(self.queue), batches)
            await loop.sock_sendall(client, encode(state))
            await asyncio.sleep(STATE_S)


class Sender:
    """Sends the parts of a result in order. `emit` may be called in any thread."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._sends: asyncio.Queue[bytes] = asyncio.Queue()
        self._sending: asyncio.Future[None] | None = None

    def emit(self, part: Json) -> None:
        packet = encode(SidePart(part))
        # skip a part that is too large, because the result contains all parts
        if len(packet) <= MAX_PART:
            self._loop.call_soon_threadsafe(self._add, packet)

    def _add(self, packet: bytes) -> None:
        self._sends.put_nowait(packet)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send_all())

    async def _send_all(self) -> None:
        with contextlib.suppress(OSError):  # the client has disconnected
            while not self._sends.empty():
                await self.send(self._sends.get_nowait())

    async def flush(self) -> None:
        """Wait until all parts are sent."""
        await asyncio.sleep(0)  # run the calls of `_add` that other threads have scheduled
        if self._sending is not None:
            await self._sending

    async def send(self, packet: bytes) -> None:
        await self._loop.sock_sendall(self._client, packet)


def main() -> None:
    parent = Parent.connect()
    die_with_parent(os.getppid())
    os.nice(NICE)
    logs.configure()
    uvloop.run(serve(parent, sys.argv[2]))


async def serve(parent: Parent, name: str) -> None:
    """Run the service until SIGTERM arrives."""
    work = asyncio.ensure_future(open_and_run(parent, name))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def open_and_run(parent: Parent, name: str) -> None:
    settings = parent.settings
    try:
        model = await asyncio.to_thread(named(name).open, settings)
    except (ConfigError, OSError) as error:
        logs.fail(f"the side model {name} cannot be loaded: {error}")
    service = SideService(name, model, socket_path(parent.scratch, name), settings.side_waiting)
    serving(parent.control)
    logger.info("side model %s on %s", name, model.device)
    reporter = asyncio.ensure_future(report(service.queue, parent.control))
    try:
        await service.run()
    finally:
        reporter.cancel()


async def report(queue: WorkQueue, control: socket.socket) -> None:
    """Report to the supervisor every second that the service runs."""
    while True:
        alive(control, queue.stalled_s())
        await asyncio.sleep(REPORT_S)


if __name__ == "__main__":
    main()
