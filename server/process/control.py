"""What `serve` and its child processes tell each other, on a socket pair that each child inherits.

Parent to child: what to serve, and the listening socket, if there is one already. Child to parent:
the socket that it made, and that it serves. JSON and descriptors; no pickle.
"""

import asyncio
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from server.settings import Settings

MAX_PACKET = 1 << 17


@dataclass(frozen=True, slots=True)
class Address:
    """A listening socket, as those who did not make it need to know it."""

    url: str  # http://HOST:PORT or unix:PATH
    tls: bool
    drain_s: int  # that its requests may take when the server ends


class Parent:
    """The child's side."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        data, descriptors = receive(control)
        start = json.loads(data)
        self.settings = Settings.model_validate(start["settings"])
        self.scratch = Path(start["scratch"])
        self.restarts: int = start["restarts"]
        self.address = Address(**start["address"]) if start["address"] else None
        self.socket = socket.socket(fileno=descriptors[0]) if descriptors else None

    @classmethod
    def connect(cls) -> Self:
        """As the child was told on its command line. Its own children get nothing of it."""
        control = socket.socket(fileno=int(sys.argv[1]))
        control.set_inheritable(False)
        return cls(control)

    @property
    def control(self) -> socket.socket:
        """For processes of the child's own, which may say `serving`, too."""
        return self._control

    def listening(self, listener: socket.socket, address: Address) -> None:
        data = json.dumps({"listening": asdict(address)}).encode()
        socket.send_fds(self._control, [data], [listener.fileno()])


def serving(control: socket.socket) -> None:
    """From now on, requests are answered here."""
    control.send(b'{"serving": true}')


class Control:
    """The parent's side."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def start(
        self,
        settings: Settings,
        scratch: Path,
        restarts: int,
        listener: socket.socket | None,
        address: Address | None,
    ) -> None:
        document = {
            "settings": settings.model_dump(mode="json"),
            "scratch": str(scratch),
            "restarts": restarts,
            "address": asdict(address) if address else None,
        }
        descriptors = [listener.fileno()] if listener else []
        socket.send_fds(self._ours, [json.dumps(document).encode()], descriptors)

    async def next(self) -> tuple[dict[str, Any], socket.socket | None] | None:
        """What the child says next; None when it, and all that it started, are gone."""
        await readable(self._ours)
        data, descriptors = receive(self._ours)
        if not data:
            return None
        listener = socket.socket(fileno=descriptors[0]) if descriptors else None
        return json.loads(data), listener

    def close(self) -> None:
        self._ours.close()
        self.theirs.close()


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """One packet and its descriptor, if it has one, which no child process inherits: Python's
    recv_fds, unlike all else in Python, makes descriptors that they do, whatever its flags."""
    data, descriptors, flags, _ = socket.recv_fds(sock, MAX_PACKET, 1)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError("a packet that is too large")
    return data, descriptors


async def readable(sock: socket.socket) -> None:
    """asyncio has no call that receives descriptors."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def source_path() -> str:
    """PYTHONPATH for a child: this very code, whatever the current folder holds."""
    ours = str(Path(__file__).parents[2])
    others = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([ours, others]) if others else ours
