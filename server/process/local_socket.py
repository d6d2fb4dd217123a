"""Unix sockets between this server's processes: one connection per job, one packet per message.

The sockets are in the server's private folder (mode 0700). This module does not depend on the
contents of messages.
"""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from server.process.control import readable, receive

Result = TypeVar("Result")

BACKLOG = 1024
AGAIN_S = 0.1  # seconds until the next attempt to accept if no descriptor is free


def open_folder(path: Path) -> tuple[int, str]:
    """Open the folder of `path`. Returns the folder's descriptor, and a short form of `path` that
    uses it.

    The short form is necessary because the kernel limits a socket's path to 107 bytes.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return folder, f"/proc/self/fd/{folder}/{path.name}"


def listen(path: Path) -> socket.socket:
    """Open the listening socket `path`, and replace the socket of a process that has ended."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder, short = open_folder(path)
    try:
        listener.bind(short)
    finally:
        os.close(folder)
    listener.setblocking(False)
    listener.listen(BACKLOG)
    return listener


async def accept_all(
    listener: socket.socket, serve: Callable[[socket.socket], Coroutine[Any, Any, None]]
) -> None:
    """Accept connections until cancelled, and run `serve` for each in a task. Then cancel these
    tasks and close the listener.
    """
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    try:
        while True:
            try:
                client, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                await asyncio.sleep(AGAIN_S)  # running jobs close descriptors in this time
                continue
            client.setblocking(False)
            task = asyncio.ensure_future(serve(client))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def unless_disconnected(
    client: socket.socket, work: Awaitable[Result]
) -> tuple[Result] | None:
    """Wait for `work`, and return its result in a tuple. If the client closes the connection
    first, cancel the work, wait until it has ended, and return None.
    """
    running = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(client, 1))
    try:
        await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
        return (running.result(),) if running.done() else None
    finally:
        for task in (running, gone):
            task.cancel()
        await asyncio.wait({running, gone})


@asynccontextmanager
async def connected(path: str) -> AsyncIterator[socket.socket]:
    """Connect to the socket `path`, in the short form of `open_folder`. Raises OSError."""
    service = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with service:
        service.setblocking(False)
        await asyncio.get_running_loop().sock_connect(service, path)
        yield service


async def send_descriptor(sock: socket.socket, packet: bytes, descriptor: int) -> None:
    """Send a packet with a descriptor, and close the descriptor. Raises OSError."""
    try:
        while True:
            try:
                socket.send_fds(sock, [packet], [descriptor])
                return
            except BlockingIOError:  # the other end has not read the earlier packets
                await writable(sock)
    finally:
        os.close(descriptor)


async def receive_packet(sock: socket.socket) -> tuple[bytes, int | None]:
    """Read one packet, and the descriptor that it carries. The caller closes the descriptor.

    Raises OSError: when the other end has closed the connection.
    """
    await readable(sock)
    packet, descriptors = receive(sock)
    if not packet:
        raise ConnectionResetError
    return packet, descriptors[0] if descriptors else None


async def writable(sock: socket.socket) -> None:
    """Wait until the socket accepts data. asyncio has no function that sends descriptors."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_writer(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(sock)
