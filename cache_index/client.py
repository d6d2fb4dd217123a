"""CacheClient: query a cache in a retrieval service, through the same interface as a local cache.

When the service is busy or the connection breaks (the service may be restarting), the client
retries until the request's timeout, and then raises CacheUnavailable. After a timeout, requests
fail at once for COOL_DOWN seconds; `check`, which the server calls regularly, extends or ends that
time. The server's policy decides whether a failed request is answered without the cache.
"""

import asyncio
import random
import time
from typing import Self

import aiohttp
from pydantic import ValidationError

from cache_index.enhance import Array, CacheParams
from cache_index.enhancer import EnhancedRow
from cache_index.errors import CacheBusy, CacheError, CacheUnavailable, QueryError
from cache_index.fit import Fit
from cache_index.manifest import MAX_MANIFEST_BYTES, Manifest
from cache_index.searcher import check_queries
from cache_index.wire import CACHE, NEIGHBORS, EnhanceRequest, pack_query, unpack_row

TRIES = 3
# Seconds before the second attempt. Before the third attempt, the client waits twice as long.
FIRST_PAUSE = 0.02
COOL_DOWN = 1.0  # After a timeout, requests fail for this many seconds without being sent.
MAX_ERROR_BYTES = 4096

BROKEN = (aiohttp.ClientError, OSError)


class CacheClient:
    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        manifest: Manifest,
        *,
        fit: Fit,
        timeout: float,
    ) -> None:
        self.manifest = manifest
        self._session = session
        self._url = url
        self._fit = fit
        self._timeout = timeout
        self._down_until = 0.0

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        fit: Fit | None = None,
        timeout: float = 2.0,
        connections: int = 64,
    ) -> Self:
        """Connect to the service and check its manifest.

        `fit`: the width and the encoder that the model requires. By default, the client accepts any
        cache. If the service later opens another cache, its width and encoder must be the same.
        Raises CacheUnavailable: when no service answers.
        Raises CacheError: when the features come from another encoder.
        """
        url = url.rstrip("/")
        session = aiohttp.ClientSession(
            headers={"authorization": f"Bearer {token}"} if token else None,
            connector=aiohttp.TCPConnector(limit=connections),
            auto_decompress=False,
        )
        try:
            async with asyncio.timeout(timeout):
                manifest = await fetch_manifest(session, url)
            fit = fit or Fit(manifest.dimension, manifest.encoder)
            fit.check(url, manifest)
        except TimeoutError:
            await session.close()
            raise CacheUnavailable(f"{url}: no answer within {timeout} s") from None
        except BaseException:
            await session.close()
            raise
        return cls(session, url, manifest, fit=fit, timeout=timeout)

    @property
    def dimension(self) -> int:
        return self.manifest.dimension

    @property
    def defaults(self) -> CacheParams:
        return self.manifest.defaults

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        return (self.manifest,)

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False, prototypes: bool = False
    ) -> EnhancedRow:
        """Enhance one query (D,), as `Enhancer` describes."""
        check_queries(query[None], self.dimension)
        request = EnhanceRequest(params, explain, prototypes)
        if time.monotonic() < self._down_until:
            raise CacheUnavailable(f"{self._url}: did not answer within the last {COOL_DOWN:g} s")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._send(pack_query(query), request)
        except TimeoutError:
            raise self._timed_out() from None
        except BROKEN as error:
            reason = type(error).__name__
            raise CacheUnavailable(f"{self._url}: cannot be reached ({reason})") from None

    async def check(self) -> None:
        """Check that the service answers queries, and read its manifest again.

        Raises CacheUnavailable: when the service does not answer.
        Raises CacheError: when the service now serves a cache that does not fit the model.
        """
        try:
            async with asyncio.timeout(self._timeout):
                async with self._session.get(
                    f"{self._url}/ready", allow_redirects=False
                ) as response:
                    if response.status != 200:
                        raise CacheUnavailable(f"{self._url}: is not ready ({response.status})")
                await self._read_manifest()
        except TimeoutError:
            raise self._timed_out() from None
        except BROKEN as error:
            reason = type(error).__name__
            raise CacheUnavailable(f"{self._url}: cannot be reached ({reason})") from None
        except CacheBusy as error:
            raise CacheUnavailable(str(error)) from None
        self._down_until = 0.0

    async def aclose(self) -> None:
        await self._session.close()

    async def _send(self, body: bytes, request: EnhanceRequest) -> EnhancedRow:
        for attempt in range(TRIES - 1):
            try:
                return await self._send_once(body, request)
            except (*BROKEN, CacheBusy):
                await asyncio.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))
        return await self._send_once(body, request)

    async def _send_once(self, body: bytes, request: EnhanceRequest) -> EnhancedRow:
        url = f"{self._url}/v1/enhance"
        async with self._session.post(
            url, params=request.pack(), data=body, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise await error_of(response)
            if response.headers.get(CACHE, "") != self.manifest.name:
                await self._read_manifest()
            neighbors = response.headers.get(NEIGHBORS, "")
            if not neighbors.isdecimal() or len(neighbors) > 6:
                raise CacheUnavailable(f"{self._url}: is no retrieval service")
            answer = await read_at_most(response, request.limit(self.dimension))
            return unpack_row(answer, int(neighbors), self.dimension, request)

    async def _read_manifest(self) -> None:
        """Check the manifest if the service has opened another cache since its last answer."""
        manifest = await fetch_manifest(self._session, self._url)
        if manifest.name != self.manifest.name:
            self._fit.check(self._url, manifest)
            self.manifest = manifest

    def _timed_out(self) -> CacheUnavailable:
        self._down_until = time.monotonic() + COOL_DOWN
        return CacheUnavailable(f"{self._url}: no answer within {self._timeout} s")


async def fetch_manifest(session: aiohttp.ClientSession, url: str) -> Manifest:
    try:
        async with session.get(f"{url}/v1/info", allow_redirects=False) as response:
            if response.status != 200:
                raise await error_of(response)
            text = await read_at_most(response, MAX_MANIFEST_BYTES)
    except (*BROKEN, TimeoutError) as error:
        reason = type(error).__name__
        raise CacheUnavailable(f"{url}: no retrieval service answers there ({reason})") from None
    try:
        return Manifest.model_validate_json(text)
    except ValidationError:
        raise CacheError(f"{url}: is no retrieval service of this version") from None


async def error_of(response: aiohttp.ClientResponse) -> Exception:
    """Return the exception for an HTTP status, with at most MAX_ERROR_BYTES of the service's
    message.
    """
    text = (await response.content.read(MAX_ERROR_BYTES)).decode(errors="replace")
    message = f"{response.url.origin()}: {response.status} {text}"
    if response.status == 503:
        return CacheBusy(message)
    if response.status == 400:
        return QueryError(message)
    if response.status in (401, 403):
        return CacheError(f"{message}; check the token")
    return CacheUnavailable(message)


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise CacheUnavailable(
                f"{response.url.origin()}: the answer has more than {limit} bytes"
            )
    return body
