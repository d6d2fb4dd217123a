"""Send a request of a batch to the application of the same process, without a connection.

The request passes the same middleware and routes as every other request, so all checks are the
same. Instead of an API key, which the server does not store, it carries the digest of its owner's
key.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Scope

from server.api.middleware.batch_scope import OWNER
from server.api.middleware.request_id import HEADER
from server.errors import RETRY_AFTER_S

logger = logging.getLogger(__name__)

JSON = "application/json"


@dataclass(slots=True)
class BatchAnswer:
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"null"  # JSON

    @property
    def request_id(self) -> str:
        return self.headers.get(HEADER, "")

    @property
    def retry_after_s(self) -> int:
        text = self.headers.get("retry-after", "")
        return int(text) if text.isdecimal() else RETRY_AFTER_S


async def send_request(app: ASGIApp, path: str, data: bytes, owner: str) -> BatchAnswer:
    """POST `data`, which is JSON, to the application on behalf of `owner` (the digest of an API
    key).
    """
    answer, pieces = BatchAnswer(), list[bytes]()
    unread = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        # Wait forever: the next message would report that the client has disconnected.
        return await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in message["headers"]
            }
        else:
            pieces.append(message.get("body", b""))

    try:
        await app(scope_of(path, data, owner), receive, send)
    except Exception:  # the application has sent a response with status 500
        logger.exception("a request of a batch failed")
    if answer.headers.get("content-type", "").startswith(JSON):
        answer.body = b"".join(pieces)
    return answer


def scope_of(path: str, data: bytes, owner: str) -> Scope:
    headers = {"host": "localhost", "content-type": JSON, "content-length": str(len(data))}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": None,
        "server": None,
        OWNER: owner,
    }
