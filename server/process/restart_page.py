"""RestartPage: responds to HTTP requests with 503 while the engine and the API restart.

RestartPage reads only the head of a request. /health gets status 200, all other paths get 503. A
server with TLS does not use RestartPage: its connections wait until the API has restarted.
"""

import asyncio
import contextlib
import json
import socket
from asyncio import StreamReader, StreamWriter

from server.errors import Unavailable, body

MAX_HEAD = 1 << 16
HEAD_TIMEOUT_S = 5
# Maximum seconds from the response until the connection is closed, because some clients read the
# response only after they have sent the whole request.
LINGER_S = 1
RETRY_S = 5
MAX_CONNECTIONS = 256  # Maximum number of concurrent connections; further connections wait.

# These exceptions mean that the client disconnects, is too slow, or sends an endless head.
CLIENT_ERRORS = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)

ALIVE = json.dumps({"status": "alive"}).encode()
RESTARTING = json.dumps(body(Unavailable("the server is being started", code="starting"))).encode()


class RestartPage:
    def __init__(self) -> None:
        self._accepting: asyncio.Task[None] | None = None
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self._answering: set[asyncio.Task[None]] = set()

    def resume(self, listener: socket.socket) -> None:
        """Start to accept connections."""
        if self._accepting is None:
            listener.listen(1024)
            listener.setblocking(False)
            self._accepting = asyncio.ensure_future(self._accept(listener))

    def pause(self) -> None:
        """Stop accepting connections. Connections that were already accepted still get
        a response.
        """
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            await self._free.acquire()
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:  # the client has disconnected, or the process has no free descriptor
                self._free.release()
                await asyncio.sleep(0.1)
                continue
            except asyncio.CancelledError:
                self._free.release()
                raise
            task = asyncio.ensure_future(self._answer(client))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, client: socket.socket) -> None:
        try:
            with contextlib.suppress(*CLIENT_ERRORS):
                reader, writer = await asyncio.open_connection(sock=client, limit=MAX_HEAD)
                with contextlib.closing(writer):
                    await answer(reader, writer)
        finally:
            self._free.release()


async def answer(reader: StreamReader, writer: StreamWriter) -> None:
    """Answer one request and close the connection. Raises CLIENT_ERRORS."""
    async with asyncio.timeout(HEAD_TIMEOUT_S):
        head = await reader.readuntil(b"\r\n\r\n")
    method, _, target = head.partition(b" ")
    alive = target.split(b" ", 1)[0] == b"/health"
    status, text = (b"200 OK", ALIVE) if alive else (b"503 Service Unavailable", RESTARTING)
    writer.write(
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Retry-After: %d\r\nConnection: close\r\n\r\n%s"
        % (status, len(text), RETRY_S, b"" if method == b"HEAD" else text)
    )
    await writer.drain()
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while await reader.read(MAX_HEAD):
                pass
