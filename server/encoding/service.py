"""The encoding service: one process that decodes and encodes files for all API processes.

`bindserve serve` starts it and restarts it when it ends (process/supervisor.py). The service keeps
running when the engine restarts. Clients pass file descriptors; closing the connection cancels the
job.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections import deque
from pathlib import Path

import uvloop

from model_ext.conditioning import Vector
from model_ext.errors import ConfigError
from model_ext.imagebind.model import TensorError
from server import logs
from server.encoding.components import EncodingComponents
from server.encoding.job import answer
from server.encoding.messages import (
    SOCKET,
    Answer,
    Job,
    Message,
    Packet,
    State,
    Watch,
)
from server.encoding.view import answer_view
from server.errors import Unavailable
from server.fairness.share import FairShare
from server.media.blob import DiskBlob
from server.process.child import die_with_parent
from server.process.control import Parent, alive, serving
from server.process.error_message import MessageError
from server.process.heap import freeze_objects, trim_heap
from server.process.local_socket import (
    accept_all,
    listen,
    receive_packet,
    send_descriptor,
    unless_disconnected,
)
from server.process.resident import resident_bytes

logger = logging.getLogger(__name__)

REPORT_S = 1  # Seconds between two reports to the supervisor.
STATE_S = 0.25  # Seconds between two State messages.
MAX_JOBS = 2048  # Maximum number of concurrent jobs, including those that wait.


class EncodingService:
    def __init__(self, parts: EncodingComponents, path: Path) -> None:
        """`path`: the path of the service's socket."""
        self._parts = parts
        self._embedder = parts.embedder()
        self._batches: deque[tuple[str, int]] = deque(maxlen=1000)
        parts.batcher.on_batch = lambda encoder, size: self._batches.append((encoder, size))
        self._jobs = FairShare(MAX_JOBS)
        self._socket = listen(path)

    async def run(self) -> None:
        """Accept connections until cancelled."""
        await accept_all(self._socket, self._serve)

    async def _serve(self, client: socket.socket) -> None:
        """Serve one connection. It carries one job (a file to embed), or one subscription to the
        state.
        """
        with client, contextlib.suppress(OSError, MessageError):
            message, descriptor = await receive(client)
            match message:
                case Job() if descriptor is not None:
                    content = DiskBlob(descriptor, message.size, bytes.fromhex(message.sha256))
                    await self._answer(client, message, content)
                case Watch():
                    await self._send_states(client)
                case _:
                    raise MessageError(f"unexpected message {type(message).__name__}")

    async def _answer(self, client: socket.socket, job: Job, content: DiskBlob) -> None:
        result = await unless_disconnected(client, self._run(job, content))
        if result is not None:
            ((packet, descriptor),) = result
            if descriptor is None:
                await send(client, packet)
            else:
                await send_descriptor(client, packet.encode(), descriptor)

    async def _run(self, job: Job, content: DiskBlob) -> tuple[Packet, int | None]:
        """Run a job. Returns the answer and, if the job asks for a view, its descriptor."""
        if not self._jobs.take(job.client):
            full = Unavailable("too many files are waiting", code="encode_queue_full")
            return Packet(Answer(False, {}, error=Answer.describe(full))), None
        try:
            if job.view:
                return await answer_view(self._parts.decoder, job, content)
            return await answer(self._embedder, job, content), None
        finally:
            self._jobs.give_back(job.client)

    async def release_memory(self) -> None:
        """Return free memory to the system when all jobs have ended, until cancelled. The C library
        keeps the memory of many waiting tensors otherwise, for example 1 GB after 200 videos.
        """
        busy = False
        while True:
            await asyncio.sleep(REPORT_S)
            if busy and not self._jobs.used:
                await asyncio.to_thread(trim_heap)
            busy = bool(self._jobs.used)

    async def _send_states(self, client: socket.socket) -> None:
        zero: Vector = self._parts.zero_image
        await send(client, Packet(self._parts.hello(), zero))
        while True:
            batches = [self._batches.popleft() for _ in range(len(self._batches))]
            await send(client, Packet(State(self._parts.missing(), batches)))
            await asyncio.sleep(STATE_S)


async def send(client: socket.socket, packet: Packet) -> None:
    await asyncio.get_running_loop().sock_sendall(client, packet.encode())


async def receive(client: socket.socket) -> tuple[Message, int | None]:
    """Read one packet, and the file descriptor that it carries. The caller closes the descriptor.

    Decoding processes do not inherit the descriptor, because it is a client's file.

    Raises MessageError, OSError.
    """
    data, descriptor = await receive_packet(client)
    try:
        return Packet.decode(data).message, descriptor
    except MessageError:
        if descriptor is not None:
            os.close(descriptor)
        raise


def main() -> None:
    parent = Parent.connect()
    die_with_parent(os.getppid())
    logs.configure()
    uvloop.run(serve(parent))


async def serve(parent: Parent) -> None:
    """Run the service until SIGTERM arrives."""
    work = asyncio.ensure_future(open_and_run(parent))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def open_and_run(parent: Parent) -> None:
    try:
        parts = await EncodingComponents.open(parent.settings)
    except (ConfigError, TensorError, OSError, Unavailable) as error:
        logs.fail(str(error))
    try:
        service = EncodingService(parts, parent.scratch / SOCKET)
        serving(parent.control)
        tasks = [asyncio.ensure_future(report(parts, parent.control))]
        tasks.append(asyncio.ensure_future(service.release_memory()))
        logger.info("encoding service: %s on %s", ", ".join(parts.modalities), parts.device)
        freeze_objects()
        logger.info("resident memory of the encoding service: %d MiB", resident_bytes() >> 20)
        try:
            await service.run()
        finally:
            for task in tasks:
                task.cancel()
    finally:
        await parts.close()


async def report(parts: EncodingComponents, control: socket.socket) -> None:
    """Report to the supervisor every second that the service runs."""
    while True:
        alive(control, parts.batcher.stalled_s())
        await asyncio.sleep(REPORT_S)


if __name__ == "__main__":
    main()
