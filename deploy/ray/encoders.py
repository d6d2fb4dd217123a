"""RayEncoders: sends files to the encoder replicas, in place of the server's encoding service.

If a replica dies, the file is sent to another replica, because embedding a file twice does no harm.
Equal files are sent once, and files whose embeddings are in this server's result cache are not
sent.
"""

from dataclasses import asdict, replace
from typing import Protocol

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, ReadOptions
from model_ext.side import Array
from server.context import client, key_salt
from server.encoding.cache import ResultCache
from server.encoding.job import unpack
from server.encoding.messages import Hello, Job, Packet
from server.encoding.view import View
from server.errors import Unavailable
from server.media.blob import Blob
from server.media.embedded import Embedded
from server.metrics import CONTENT_HITS

TRIES = 3  # a request fails if this many replicas die while they embed its file


class Replicas(Protocol):
    """The methods of the encoder replicas. They take and return bytes."""

    async def hello(self) -> bytes: ...
    async def embed(self, job: bytes, data: bytes) -> bytes: ...


class Handle:
    """An implementation of `Replicas` that calls a Ray Serve handle."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def hello(self) -> bytes:
        packet: bytes = await self._handle.hello.remote()
        return packet

    async def embed(self, job: bytes, data: bytes) -> bytes:
        packet: bytes = await self._handle.embed.remote(job, data)
        return packet


class RayEncoders:
    def __init__(
        self, replicas: Replicas, cache_bytes: int, *, share_results: bool = False
    ) -> None:
        """`share_results`: whether API keys share the results of equal files."""
        self._share_results = share_results
        self._replicas = replicas
        self._contents: ResultCache[Embedded] = ResultCache(cache_bytes)

    async def hello(self) -> tuple[Hello, Vector]:
        packet = Packet.decode(await self._replicas.hello())
        assert isinstance(packet.message, Hello)
        return packet.message, packet.numbers

    def missing(self) -> str | None:
        """Return None, so that /ready does not depend on the replicas, which Ray restarts. Requests
        get status 503 while there are no replicas.
        """
        return None

    async def close(self) -> None:
        """Do nothing, because Ray stops the replicas."""

    async def embed(
        self, modality: str, content: Blob, options: ReadOptions = DEFAULT_OPTIONS
    ) -> Embedded:
        """Embed one file.

        Raises MediaError or BadRequest: when the file cannot be embedded. Raises Unavailable: when
        all replicas are full or lost.
        """
        cached, digest = True, await content.digest()
        results = "" if self._share_results else key_salt()
        job = Job(modality, content.size, digest.hex(), client(), results, asdict(options))

        async def ask() -> Embedded:
            nonlocal cached
            data = b"".join([bytes(piece) async for piece in content.pieces()])
            packet = Packet.decode(await self._ask(Packet(job).encode(), data))
            embedded, cached = unpack(packet)
            return embedded

        embedded = await self._contents.get((results, modality, options, digest), ask)
        if cached:
            CONTENT_HITS.labels(embedded.modality).inc()
        return replace(embedded, cached=cached)

    async def decode(self, view: str, modality: str, content: Blob) -> Array:
        """Raise Unavailable. Only side models need views, and the Ray deployment starts no side
        models.
        """
        del view, modality, content
        raise Unavailable("experts are not available on this server")

    async def view(self, view: str, modality: str, content: Blob) -> View:
        """Raise Unavailable, for the same reason as `decode`."""
        del view, modality, content
        raise Unavailable("detectors are not available on this server")

    async def _ask(self, job: bytes, data: bytes) -> bytes:
        for _ in range(TRIES):
            try:
                return await self._replicas.embed(job, data)
            except BackPressureError:
                raise Unavailable(
                    "too many files are waiting to be encoded", code="encode_queue_full"
                ) from None
            except RayActorError:
                continue  # the replica died; Ray sends the next call to another replica
            except (RayError, RayServeException):
                break
        raise Unavailable("the encoders are being restarted", code="encoders_unavailable")
