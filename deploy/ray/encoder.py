"""The encoder replica: decodes and encodes files for any server replica of the cluster.

The replica has the components of the encoding service. It receives the same messages, but as calls
of its methods by Ray instead of through a socket.
"""

from typing import Any

from ray import serve

from server.encoding.components import EncodingComponents
from server.encoding.job import answer
from server.encoding.messages import Job, Packet
from server.media.blob import MemoryBlob
from server.settings import Settings


@serve.deployment
class EncoderReplica:
    # Ray awaits this method, so it can be a coroutine.
    async def __init__(self, settings: dict[str, Any]) -> None:  # type: ignore[misc]
        self._parts = await EncodingComponents.open(Settings.load(**settings))
        self._embedder = self._parts.embedder()

    async def hello(self) -> bytes:
        """Return a packet: the encoders' modalities, and the embedding of an all-zero image."""
        return Packet(self._parts.hello(), self._parts.zero_image).encode()

    async def embed(self, job: bytes, data: bytes) -> bytes:
        """Embed one file. `job`: a packet with a `Job`. Returns a packet with the embedding,
        or with the error for the client.
        """
        message = Packet.decode(job).message
        assert isinstance(message, Job)
        return (await answer(self._embedder, message, MemoryBlob(data))).encode()

    def check_health(self) -> None:
        """Raise RuntimeError if a component is lost. Ray then replaces this replica."""
        if (missing := self._parts.missing()) is not None:
            raise RuntimeError(missing)
