"""The control socket between `bindserve serve` and each of its child processes, which inherit it.

The parent sends `Start`, with the listening socket if it already exists. The child sends
`Listening` with the socket that it opened, then `Serving`, then `Alive` every second. A packet
contains one JSON message and at most one descriptor. No pickles are used.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from server.settings import Settings

MAX_PACKET = 1 << 17


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a listening socket, for processes that did not open the socket."""

    url: str  # Either http://HOST:PORT or unix:PATH.
    tls: bool
    drain_s: int  # Seconds that running requests have to finish when the server stops.


@dataclass(frozen=True, slots=True)
class Start:
    """The parent's first message to a child. If there is an address, the packet carries its
    listening socket.
    """

    settings: Settings
    scratch: Path  # The server's private folder.
    restarts: int  # How often this child has been restarted.
    address: Address | None

    def encode(self) -> bytes:
        document = {
            "settings": self.settings.model_dump(mode="json"),
            "scratch": str(self.scratch),
            "restarts": self.restarts,
            "address": asdict(self.address) if self.address else None,
        }
        return json.dumps(document).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        document = json.loads(data)
        address = document["address"]
        return cls(
            Settings.model_validate(document["settings"]),
            Path(document["scratch"]),
            document["restarts"],
            Address(**address) if address else None,
        )


@dataclass(frozen=True, slots=True)
class Listening:
    """A child's message: the child has opened the listening socket, which the packet carries."""

    address: Address


@dataclass(frozen=True, slots=True)
class Serving:
    """A child's message: from now on, the child answers requests."""


@dataclass(frozen=True, slots=True)
class Alive:
    """A child's message, sent every second: the process `pid` still runs its event loop."""

    pid: int
    # Seconds since the program's work last made progress, e.g. since the engine's last step.
    stalled_s: float


Report = Listening | Serving | Alive  # the three messages that a child process sends to its parent


def encode(message: Report) -> bytes:
    return json.dumps({type(message).__name__: asdict(message)}).encode()


def decode(data: bytes) -> Report:
    """Parse a child's message. Raises OSError when the packet is not such a message."""
    match json.loads(data):
        case {"Listening": {"address": dict(address)}}:
            return Listening(Address(**address))
        case {"Serving": {}}:
            return Serving()
        case {"Alive": {"pid": int(pid), "stalled_s": float(stalled_s)}}:
            return Alive(pid, stalled_s)
    raise OSError("a child process sent an unknown message")


class Parent:
    """The child's end of the control socket, through which the child talks to its parent."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        data, descriptors = receive(control)
        start = Start.decode(data)
        self.settings, self.scratch = start.settings, start.scratch
        self.restarts, self.address = start.restarts, start.address
        self.socket = socket.socket(fileno=descriptors[0]) if descriptors else None

    @classmethod
    def connect(cls) -> Self:
        """Open the socket whose descriptor is the first command-line argument. The child's own
        child processes do not inherit it.
        """
        control = socket.socket(fileno=int(sys.argv[1]))
        control.set_inheritable(False)
        return cls(control)

    @property
    def control(self) -> socket.socket:
        """Return the socket itself, so that processes that the child starts can call `serving`."""
        return self._control

    def listening(self, listener: socket.socket, address: Address) -> None:
        socket.send_fds(self._control, [encode(Listening(address))], [listener.fileno()])


def serving(control: socket.socket) -> None:
    """Report to the parent that this process answers requests from now on."""
    control.send(encode(Serving()))


def alive(control: socket.socket, stalled_s: float) -> None:
    """Report to the parent that this process runs. If the parent does not read, does nothing."""
    with contextlib.suppress(OSError):
        control.send(encode(Alive(os.getpid(), float(stalled_s))), socket.MSG_DONTWAIT)


class Control:
    """The parent's end of the control socket, through which the parent talks to one child."""

    def __init__(self) -> None:
        self._parents, self.childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._parents.setblocking(False)

    def start(self, message: Start, listener: socket.socket | None) -> None:
        """Send the start message. Raises OSError when the child has already ended."""
        descriptors = [listener.fileno()] if listener else []
        socket.send_fds(self._parents, [message.encode()], descriptors)

    async def next(self) -> tuple[Report, socket.socket | None] | None:
        """Return the child's next message, or None when the child and all its processes
        have ended.
        """
        await readable(self._parents)
        data, descriptors = receive(self._parents)
        if not data:
            return None
        listener = socket.socket(fileno=descriptors[0]) if descriptors else None
        return decode(data), listener

    def close(self) -> None:
        self._parents.close()
        self.childs.close()


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Read one packet and at most one descriptor, which child processes do not inherit.

    Python's recv_fds would return an inheritable descriptor, unlike other functions of Python.

    Raises OSError: when the packet is larger than MAX_PACKET.
    """
    data, descriptors, flags, _ = socket.recv_fds(sock, MAX_PACKET, 1)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise OSError("the packet is too large")
    return data, descriptors


async def readable(sock: socket.socket) -> None:
    """Wait until the socket has data. asyncio has no function that receives descriptors."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def source_path() -> str:
    """Return the PYTHONPATH of a child process, with which it imports this source code in any
    working directory.
    """
    own = str(Path(__file__).parents[2])
    inherited = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([own, inherited]) if inherited else own
