"""The client of the encoding service. Each API process has one client.

Each job (one file to embed) has its own connection; closing the connection cancels the job. While
the service is down, requests with attachments and requests to /ready get status 503.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path

from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, ReadOptions
from model_ext.side import Array
from server.context import client, key_salt
from server.encoding.job import unpack
from server.encoding.messages import (
    MAX_PACKET,
    Hello,
    Job,
    Packet,
    State,
    Watch,
)
from server.encoding.view import View, unpack_view
from server.errors import Unavailable
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.metrics import CONTENT_HITS, ENCODE_BATCH
from server.process.error_message import MessageError
from server.process.local_socket import connected, open_folder, receive_packet

logger = logging.getLogger(__name__)

AGAIN_S = 0.1  # seconds between two attempts to connect
GONE = "the encoders are being started"
STALLED = "the encoding service does not answer"


class EncodingClient:
    def __init__(self, path: Path, *, share_results: bool = False, stall_s: float = 30) -> None:
        """`path`: the path of the service's socket. `share_results`: whether API keys share the
        results of equal files. `stall_s`: the service counts as stalled after this many seconds
        without a message.
        """
        self._share_results = share_results
        self._stall_s = stall_s
        self._heard = time.monotonic()  # Time of the service's last message.
        # The timeouts of the running jobs. They expire when the service stalls.
        self._asking: set[asyncio.Timeout] = set()
        self._folder, self._path = open_folder(path)
        self._missing: str | None = GONE
        self._hello: asyncio.Future[tuple[Hello, Vector]] = asyncio.Future()
        self._watching = asyncio.ensure_future(self._watch())

    async def hello(self) -> tuple[Hello, Vector]:
        """Wait until the service answers. Returns the service's `Hello`, which describes its
        encoders, and the embedding (D,) of a zero image.
        """
        return await self._hello

    def missing(self) -> str | None:
        return self._missing

    def stalled_s(self) -> float:
        """Return the seconds since the last message of the service, which usually sends four per
        second.
        """
        return time.monotonic() - self._heard

    async def close(self) -> None:
        self._watching.cancel()
        await asyncio.wait([self._watching])
        os.close(self._folder)

    async def embed(
        self, modality: str, content: Blob, options: ReadOptions = DEFAULT_OPTIONS
    ) -> Embedded:
        """Embed one file.

        Raises MediaError or BadRequest: when the file is bad.
        Raises Unavailable: when the service is full, down or stalled.
        """
        packet, _ = await self._ask(modality, content, options)
        try:
            embedded, cached = unpack(packet)
        except MessageError:
            raise gone() from None
        if cached:
            CONTENT_HITS.labels(embedded.modality).inc()
        return replace(embedded, cached=cached)

    async def decode(self, view: str, modality: str, content: Blob) -> Array:
        """Decode a view (model_ext.imagebind.preprocess.views) of one file. Raises as `embed`."""
        return (await self.view(view, modality, content)).array

    async def view(self, view: str, modality: str, content: Blob) -> View:
        """Return what `decode` returns, with the reader's notes. Raises as `embed` does."""
        packet, descriptor = await self._ask(modality, content, DEFAULT_OPTIONS, view)
        try:
            return await unpack_view(packet, descriptor)
        except MessageError:
            raise gone() from None

    async def _ask(
        self, modality: str, content: Blob, options: ReadOptions, view: str = ""
    ) -> tuple[Packet, int | None]:
        results = "" if self._share_results else key_salt()
        digest = (await content.digest()).hex()
        job = Job(modality, content.size, digest, client(), results, asdict(options), view)
        if self._missing == STALLED:
            raise stalled()
        try:
            async with self._until_stalled(), connected(self._path) as service:
                descriptor = await content.descriptor()
                # The write does not block, because the few hundred bytes of a message fit into the
                # empty buffer of the socket.
                try:
                    socket.send_fds(service, [Packet(job).encode()], [descriptor])
                finally:
                    os.close(descriptor)
                data, answered = await receive_packet(service)
                return Packet.decode(data), answered
        except TimeoutError:  # before OSError, of which TimeoutError is a subclass
            raise stalled() from None
        except (OSError, MessageError):
            raise gone() from None

    @asynccontextmanager
    async def _until_stalled(self) -> AsyncIterator[None]:
        """Run the `with` block until the service stalls. Then raises TimeoutError."""
        async with asyncio.timeout(None) as limit:
            self._asking.add(limit)
            try:
                yield
            finally:
                self._asking.discard(limit)

    async def _watch(self) -> None:
        """Receive the states that the service sends. After a lost connection, connect again."""
        while True:
            with contextlib.suppress(OSError, MessageError):
                async with connected(self._path) as service:
                    await self._follow(service)
            if self._missing is None:
                logger.warning("the encoding service is down")
            self._missing = GONE
            await asyncio.sleep(AGAIN_S)

    async def _follow(self, service: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(service, Packet(Watch()).encode())
        while True:
            packet = await self._next(service)
            match packet.message:
                case Hello() if not self._hello.done():
                    self._hello.set_result((packet.message, packet.numbers))
                case State():
                    self._missing = packet.message.missing
                    for encoder, size in packet.message.batches:
                        ENCODE_BATCH.labels(encoder).observe(size)

    async def _next(self, service: socket.socket) -> Packet:
        """Receive the next message. Ends all running jobs if no message arrives within `stall_s`
        seconds.
        """
        try:
            async with asyncio.timeout(self._stall_s):
                packet = await receive(service)
        except TimeoutError:
            logger.error("the encoding service has not answered for %g s", self._stall_s)
            self._missing = STALLED
            for limit in self._asking:
                limit.reschedule(asyncio.get_running_loop().time())
            packet = await receive(service)
        self._heard = time.monotonic()
        return packet


async def receive(service: socket.socket) -> Packet:
    """Read one packet. Raises OSError: when the service closes the connection. Raises MessageError:
    when the packet is not a message of the service.
    """
    data = await asyncio.get_running_loop().sock_recv(service, MAX_PACKET)
    if not data:
        raise ConnectionResetError
    return Packet.decode(data)


def gone() -> Unavailable:
    return Unavailable("the encoders are being restarted", code="encoders_unavailable")


def stalled() -> Unavailable:
    return Unavailable(STALLED, code="encoders_stalled")
