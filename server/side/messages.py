"""The messages between API processes and a side model's process, on a Unix socket.

One packet is one message in JSON. The packets of a task and of its result carry the descriptor of
a file in memory (server/process/data_file.py).
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from server.process.error_message import MessageError
from server.process.local_socket import receive_packet, send_descriptor

MAX_PART = 1 << 16  # Maximum bytes of one part of a result.


@dataclass(frozen=True, slots=True)
class SideRequest:
    """A task. The packet carries the descriptor of its data."""

    client: str = ""  # Id of the client. Clients take turns in the queue.


@dataclass(frozen=True, slots=True)
class SideWatch:
    """The request to subscribe: the process sends `SideState` now and every quarter of a second."""


@dataclass(frozen=True, slots=True)
class SidePart:
    """A part of a result, which is sent before the result."""

    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SideResponse:
    """The last message of a task: an error, or a result. The packet of a result carries the
    descriptor of the result's data.
    """

    error: dict[str, str | None] | None = None  # The error, as `describe_error` returns it.


@dataclass(frozen=True, slots=True)
class SideState:
    gpu_bytes: int = 0  # The maximum GPU memory that the model uses.
    waiting: int = 0  # Number of tasks that wait.
    batches: tuple[int, ...] = ()  # Number of tasks in each batch that ran since the last state.


SideMessage = SideRequest | SideWatch | SidePart | SideResponse | SideState
KINDS: Mapping[str, type[SideMessage]] = {
    kind.__name__: kind for kind in (SideRequest, SideWatch, SidePart, SideResponse, SideState)
}


def encode(message: SideMessage) -> bytes:
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode()


def decode(packet: bytes) -> SideMessage:
    """Parse a message. Raises MessageError."""
    try:
        fields = json.loads(packet)
        return KINDS[fields.pop("kind")](**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MessageError("not a message") from None


async def send_file(sock: socket.socket, message: SideMessage, descriptor: int) -> None:
    """Send a message with a descriptor, and close the descriptor. Raises OSError."""
    await send_descriptor(sock, encode(message), descriptor)


async def receive(sock: socket.socket) -> tuple[SideMessage, int | None]:
    """Read one packet, and the descriptor that it carries. The caller closes the descriptor.

    Raises OSError: when the other end has closed the connection. Raises MessageError.
    """
    packet, descriptor = await receive_packet(sock)
    try:
        return decode(packet), descriptor
    except MessageError:
        if descriptor is not None:
            os.close(descriptor)
        raise
