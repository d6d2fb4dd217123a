"""CacheClient: a cache that runs elsewhere, behind the same interface as one in this process.

Each request has a deadline, within which it is sent again when the service is busy or its
connection breaks (it may just have been restarted). After that it is CacheUnavailable; what to do
then (answer without the cache, or refuse) is the server's policy, not ours. One that did not answer
in time is not waited for again for a moment; `check`, called regularly, prolongs that or ends it.
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
from cache_index.wire import CACHE, NEIGHBORS, Asked, pack_query, unpack_row

TRIES = 3
FIRST_PAUSE = 0.02  # seconds before the second try; doubled before the third
COOL_DOWN = 1.0  # seconds in which nobody waits again for a service that did not answer in time
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
        """CacheUnavailable if nobody answers, CacheError if it is a cache of another encoder.

        `fit`: what the model asks for. Default: nothing, but a cache that takes the place of this
        one must be of the same width and encoder.
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
        """One query (D,), as `Enhancer` says."""
        check_queries(query[None], self.dimension)
        asked = Asked(params, explain, prototypes)
        if time.monotonic() < self._down_until:
            raise CacheUnavailable(f"{self._url}: did not answer a moment ago")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask(pack_query(query), asked)
        except TimeoutError:
            raise self._silent() from None
        except BROKEN as error:
            reason = type(error).__name__
            raise CacheUnavailable(f"{self._url}: cannot be reached ({reason})") from None

    async def check(self) -> None:
        """Does it answer queries now? CacheUnavailable if not, CacheError if it went over to a
        cache that does not fit."""
        try:
            async with asyncio.timeout(self._timeout):
                async with self._session.get(
                    f"{self._url}/ready", allow_redirects=False
                ) as response:
                    if response.status != 200:
                        raise CacheUnavailable(f"{self._url}: is not ready ({response.status})")
                await self._look_again()
        except TimeoutError:
            raise self._silent() from None
        except BROKEN as error:
            reason = type(error).__name__
            raise CacheUnavailable(f"{self._url}: cannot be reached ({reason})") from None
        except CacheBusy as error:
            raise CacheUnavailable(str(error)) from None
        self._down_until = 0.0

    async def aclose(self) -> None:
        await self._session.close()

    async def _ask(self, body: bytes, asked: Asked) -> EnhancedRow:
        for attempt in range(TRIES - 1):
            try:
                return await self._ask_once(body, asked)
            except (*BROKEN, CacheBusy):
                await asyncio.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))
        return await self._ask_once(body, asked)

    async def _ask_once(self, body: bytes, asked: Asked) -> EnhancedRow:
        url = f"{self._url}/v1/enhance"
        async with self._session.post(
            url, params=asked.pack(), data=body, allow_redirects=False
        ) as response:
            if response.status != 200:
                raise await error_of(response)
            if response.headers.get(CACHE, "") != self.manifest.name:
                await self._look_again()
            neighbors = response.headers.get(NEIGHBORS, "")
            if not neighbors.isdecimal() or len(neighbors) > 6:
                raise CacheUnavailable(f"{self._url}: is no retrieval service")
            answer = await read_at_most(response, asked.limit(self.dimension))
            return unpack_row(answer, int(neighbors), self.dimension, asked)

    async def _look_again(self) -> None:
        """The service may have gone over to another cache: is it still one for our model?"""
        manifest = await fetch_manifest(self._session, self._url)
        if manifest.name != self.manifest.name:
            self._fit.check(self._url, manifest)
            self.manifest = manifest

    def _silent(self) -> CacheUnavailable:
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
    """The class by the status; the service's words in the message, bounded."""
    text = (await response.content.read(MAX_ERROR_BYTES)).decode(errors="replace")
    told = f"{response.url.origin()}: {response.status} {text}"
    if response.status == 503:
        return CacheBusy(told)
    if response.status == 400:
        return QueryError(told)
    if response.status in (401, 403):
        return CacheError(f"{told}; check the token")
    return CacheUnavailable(told)


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise CacheUnavailable(f"{response.url.origin()}: answers more than was asked for")
    return body
