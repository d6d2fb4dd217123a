"""The messages between API processes and the encoding service, on a Unix socket.

One packet (SOCK_SEQPACKET) is one message: a JSON object, a newline and raw float32 numbers,
without pickle. The packet of a job also carries the descriptor of the file, so that no process
copies a large file. The socket is in the server's private folder.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from model_ext.conditioning import Vector
from server.encoding.decode.pool import MediaError
from server.errors import BadRequest, InternalError, RequestError, Unavailable
from server.process.error_message import MessageError, describe_error, kinds, raise_described

SOCKET = "encoding.sock"  # Name of the socket in the server's private folder.
MAX_PACKET = 1 << 17  # Maximum bytes of a packet; an embedding of 1024 numbers needs 4 KiB.

ERRORS = kinds(BadRequest, MediaError, Unavailable, InternalError)


@dataclass(frozen=True, slots=True)
class Job:
    """The request to embed one file. The packet carries the file's descriptor."""

    modality: str
    size: int
    sha256: str
    # Id of the client that sent the file. Clients take turns in the queues of the service.
    client: str = ""

    # Id of the API key whose cached results the job may use. "": the results that all keys share.
    results: str = ""

    # The fields of model_ext.imagebind.preprocess.ReadOptions.
    options: dict[str, Any] = field(default_factory=dict)

    # "": embed the file. Else only decode this view of it (model_ext.imagebind.preprocess.views);
    # the answer then carries the descriptor of a file with the array `view` (data_file.py).
    view: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """The request to subscribe: the service sends `Hello` once, then `State` every quarter of a
    second.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a job: the durations of the stages, and either an embedding (in the payload) or
    an error.
    """

    cached: bool
    seconds: dict[str, float]
    failed: str | None = None  # Name of the stage that failed.
    error: dict[str, str | None] | None = None  # The error, with the keys kind, message and code.
    modality: str = ""  # The modality that was encoded, or that of the job if there is an error.
    notes: dict[str, Any] = field(default_factory=dict)  # What the file's reader reports.

    @staticmethod
    def describe(error: RequestError) -> dict[str, str | None]:
        return describe_error(error, ERRORS)

    def raise_error(self) -> None:
        raise_described(self.error, ERRORS)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first answer to `Watch`. Its payload is the embedding of an image of zeros."""

    encoders: list[str]
    dtype: str | None = None  # The dtype of the encoders' weights.
    gpu_bytes: int = 0  # The maximum GPU memory that the encoders and their batches use.


@dataclass(frozen=True, slots=True)
class State:
    """Each later answer to `Watch`: the reason why the service cannot work, if any, and the batches
    since the last answer.
    """

    missing: str | None = None
    # Pairs (encoder, number of samples).
    batches: list[tuple[str, int]] = field(default_factory=list)


Message = Job | Watch | Answer | Hello | State
KINDS: Mapping[str, type[Message]] = {
    kind.__name__: kind for kind in (Job, Watch, Answer, Hello, State)
}


@dataclass(frozen=True, slots=True)
class Packet:
    message: Message
    numbers: Vector = field(default_factory=lambda: np.empty(0, np.float32))

    def encode(self) -> bytes:
        head: dict[str, Any] = {"kind": type(self.message).__name__, **asdict(self.message)}
        return json.dumps(head).encode() + b"\n" + self.numbers.astype("<f4").tobytes()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse a message from its JSON. Raises MessageError."""
        head, _, payload = data.partition(b"\n")
        try:
            fields = json.loads(head)
            message = KINDS[fields.pop("kind")](**fields)
            return cls(message, np.frombuffer(payload, "<f4").astype(np.float32))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise MessageError("not a message") from None
