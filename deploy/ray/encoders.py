"""RayEncoders: how a server asks the encoder replicas, in the place of its own encoding service.

A file whose replica dies is sent to another one: embedding it again harms nobody. Equal files are
sent once; what is known here needs no replica.
"""

from typing import Protocol

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from model_ext.conditioning import Vector
from server.encoding.cache import ResultCache
from server.encoding.job import unpack
from server.encoding.messages import Hello, Packet
from server.errors import Unavailable
from server.media.blob import Blob
from server.metrics import CONTENT_HITS

TRIES = 3  # replicas that may die on one file before it is the file's fault


class Replicas(Protocol):
    """What we need of a handle: bytes in, bytes out."""

    async def hello(self) -> bytes: ...
    async def embed(self, modality: str, data: bytes) -> bytes: ...


class Handle:
    """`Replicas` by a Ray Serve handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def hello(self) -> bytes:
        packet: bytes = await self._handle.hello.remote()
        return packet

    async def embed(self, modality: str, data: bytes) -> bytes:
        packet: bytes = await self._handle.embed.remote(modality, data)
        return packet


class RayEncoders:
    def __init__(self, replicas: Replicas, cache_bytes: int) -> None:
        self._replicas = replicas
        self._contents = ResultCache(cache_bytes)

    async def hello(self) -> tuple[Hello, Vector]:
        packet = Packet.decode(await self._replicas.hello())
        assert isinstance(packet.message, Hello)
        return packet.message, packet.numbers

    def missing(self) -> str | None:
        """Whether replicas are there is for Ray to see to; a request without one is told 503."""
        return None

    async def close(self) -> None:
        """Ray ends the replicas."""

    async def embed(self, modality: str, content: Blob) -> Vector:
        """Unit embedding (D,). MediaError, BadRequest; Unavailable if no replica is free."""
        cached = True

        async def ask() -> Vector:
            nonlocal cached
            data = b"".join([bytes(piece) async for piece in content.pieces()])
            packet = Packet.decode(await self._ask(modality, data))
            embedding, cached = unpack(packet, modality)
            return embedding

        embedding = await self._contents.get((modality, await content.digest()), ask)
        if cached:
            CONTENT_HITS.labels(modality).inc()
        return embedding

    async def _ask(self, modality: str, data: bytes) -> bytes:
        for _ in range(TRIES):
            try:
                return await self._replicas.embed(modality, data)
            except BackPressureError:
                raise Unavailable(
                    "too many files are waiting to be encoded", code="encode_queue_full"
                ) from None
            except RayActorError:
                continue  # the replica died; Ray knows by now, and chooses another
            except (RayError, RayServeException):
                break
        raise Unavailable("the encoders are being restarted", code="encoders_unavailable")
