"""Messages between the API process and the process that compiles grammars.

A message consists of its length in bytes and a JSON object.
"""

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["json", "regex", "grammar", "lark", "structural_tag"]

LENGTH = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class CompileJob:
    kind: Kind
    spec: str
    cpu_s: float  # Maximum seconds of CPU time.
    memory_bytes: int  # Maximum memory in bytes, in addition to that of the imported packages.
    compiled_bytes: int  # Maximum size of the compiled grammar.
    mask_ms: float  # Maximum milliseconds to find the tokens that the grammar allows next.


def encode(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return LENGTH.pack(len(data)) + data


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    connection.sendall(encode(message))


def receive(connection: socket.socket, max_bytes: int) -> dict[str, Any]:
    """Raises EOFError, ValueError."""
    (length,) = LENGTH.unpack(receive_exactly(connection, LENGTH.size))
    if length > max_bytes:
        raise ValueError("the message is too long")
    message: dict[str, Any] = json.loads(receive_exactly(connection, length))
    return message


def receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(min(size - len(data), 1 << 20))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
