"""Sockets between processes: accepting connections."""

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from server.process import local_socket
from server.process.local_socket import accept_all, connected, listen


async def test_the_service_continues_when_no_descriptor_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    accept, errors = loop.sock_accept, [errno.EMFILE, errno.ENFILE]

    async def failing_accept(listener: socket.socket) -> tuple[socket.socket, object]:
        if errors:
            raise OSError(errors.pop(), "no descriptor is free")
        return await accept(listener)

    async def serve(client: socket.socket) -> None:
        with client:
            await loop.sock_sendall(client, b"hello")

    monkeypatch.setattr(local_socket, "AGAIN_S", 0.001)
    monkeypatch.setattr(loop, "sock_accept", failing_accept)
    path = tmp_path / "socket"
    running = asyncio.ensure_future(accept_all(listen(path), serve))
    async with asyncio.timeout(10), connected(str(path)) as service:
        assert await loop.sock_recv(service, 10) == b"hello"
    assert not errors
    running.cancel()
    await asyncio.wait([running])
    errors.append(errno.EINVAL)  # any other error ends `accept_all`
    with pytest.raises(OSError, match="no descriptor"):
        await accept_all(listen(path), serve)
