"""Time limits of one connection: for the headers of a request, and for a client that does not read
its response.

`middleware/body_time.py` limits the time of bodies. uvicorn itself closes a connection that has
waited for its next request for some seconds.
"""

import asyncio
import json
import sys
import termios
from fcntl import ioctl

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import RequestTimeout, body
from server.metrics import REJECTIONS

# A client must read this many bytes of its response within `send_timeout_s`.
PROGRESS_BYTES = 1 << 16


class TimedProtocol(HttpToolsProtocol):
    header_timeout_s: float
    send_timeout_s: float

    _headers_due: asyncio.TimerHandle | None = None
    _sent_due: asyncio.TimerHandle | None = None
    _unread = 0  # Bytes of the response that waited when the time limit started.
    _begun = False  # Whether the first bytes of the next headers have arrived.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_arrived()
        self._sent()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Bytes that arrive after a response are the next request's headers, or the rest of a body
        # that no route reads.
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.is_closing():
            self._await_headers()

    def on_message_begin(self) -> None:
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._headers_arrived()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """Start the time limit. uvicorn calls this method when 64 KiB of the response wait to be
        sent.
        """
        super().pause_writing()
        self._sent()  # a time limit may still run for the end of the previous response
        self._await_sent()

    def resume_writing(self) -> None:
        """Stop the time limit. uvicorn calls this method when the client has read most of the
        waiting bytes.
        """
        self._sent()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._await_sent()

    def _await_headers(self) -> None:
        if self._headers_due is None:
            self._headers_due = self.loop.call_later(self.header_timeout_s, self._headers_late)

    def _headers_arrived(self) -> None:
        self._begun = False
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _headers_late(self) -> None:
        begun = self._begun
        self._headers_arrived()
        self._unset_keepalive_if_required()
        if begun:
            error = RequestTimeout("the request's headers arrive too slowly")
            REJECTIONS.labels(error.code).inc()
            content = json.dumps(body(error)).encode()
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(content), content)
            )
        self.transport.close()

    def _await_sent(self) -> None:
        if self._sent_due is None:
            self._unread = self._waiting_bytes()
            self._sent_due = self.loop.call_later(self.send_timeout_s, self._unsent)

    def _sent(self) -> None:
        if self._sent_due is not None:
            self._sent_due.cancel()
            self._sent_due = None

    def _unsent(self) -> None:
        """Start the next time limit if the client has read enough. Otherwise close the connection
        without sending the rest of the response, which cancels the request.
        """
        self._sent_due = None
        if not (self.flow.write_paused or self.transport.get_write_buffer_size()):
            return
        if self._unread - self._waiting_bytes() >= PROGRESS_BYTES:
            self._await_sent()
            return
        REJECTIONS.labels("slow_reader").inc()
        self.transport.abort()

    def _waiting_bytes(self) -> int:
        """Return how many bytes of the response the client's host has not received. Includes the
        bytes in the kernel's send buffer, which accepts more bytes only when about a third of it is
        free.
        """
        descriptor = self.transport.get_extra_info("socket").fileno()
        in_kernel = int.from_bytes(ioctl(descriptor, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
        return self.transport.get_write_buffer_size() + in_kernel
