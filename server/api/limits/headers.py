"""Limit the size and number of a request's headers while uvicorn parses them.

If the headers exceed a limit, the server responds with status 431 and closes the connection.
uvicorn's parser, httptools, has no limits, and ASGI middleware runs only when all headers are in
memory.
"""

import json

from server.api.limits.connection_times import TimedProtocol
from server.errors import HeadersTooLarge, body
from server.metrics import REJECTIONS
from server.settings import Settings

# Seconds from the response until the server closes the connection, because some clients read the
# response only after they have sent the whole request.
LINGER_S = 1
SEPARATORS = len(": \r\n")


class LimitedProtocol(TimedProtocol):
    """One connection of a client. uvicorn creates an instance for each connection."""

    max_bytes: int
    max_count: int

    # Size and number of the parsed headers of the current request, including its trailers.
    _bytes = _count = 0
    # Bytes received since the request began or since its last part of a body.
    _unparsed = 0
    _error: HeadersTooLarge | None = None

    def data_received(self, data: bytes) -> None:
        if self._error is not None:
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self._error is None and self._unparsed > self.max_bytes:
            self._error = self._too_many_bytes()
            self._reject()

    def on_message_begin(self) -> None:
        self._bytes = self._count = self._unparsed = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._add(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count += 1
        if self._count > self.max_count:
            self._fail(HeadersTooLarge(f"the request has more than {self.max_count} headers"))
        self._add(len(name) + len(value) + SEPARATORS)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Reject the request. uvicorn calls this method when the parser fails, also after `_fail`
        raises.
        """
        if self._error is None:
            return super().send_400_response(msg)
        self._reject()

    def _add(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self.max_bytes:
            self._fail(self._too_many_bytes())

    def _too_many_bytes(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"the request's headers are larger than {self.max_bytes} bytes")

    def _fail(self, error: HeadersTooLarge) -> None:
        self._error = error
        raise error  # The parser stops at this exception.

    def _reject(self) -> None:
        """Respond, unless another response has begun, and close the connection."""
        self._unset_keepalive_if_required()
        if self.cycle is not None and not self.cycle.response_complete:
            return self.transport.close()
        assert self._error is not None
        REJECTIONS.labels(self._error.code).inc()
        content = json.dumps(body(self._error)).encode()
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(content), content)
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def limited_protocol(settings: Settings) -> type[LimitedProtocol]:
    """Create the protocol class for uvicorn's option `http`."""
    limits = {
        "max_bytes": settings.max_header_bytes,
        "max_count": settings.max_header_count,
        "header_timeout_s": settings.header_timeout_s,
        "send_timeout_s": settings.send_timeout_s,
    }
    return type("ConnectionLimits", (LimitedProtocol,), limits)
