"""Download the file at an http(s) URL that a client sends, from public addresses only.

The operator must enable downloads. For the URL and each redirect, the fetcher checks the form of
the URL and every address of the host, and connects only to these addresses. It writes the bytes to
disk.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from server.context import client
from server.errors import BadRequest, TooLarge, Unavailable
from server.fairness.share import FairShare
from server.media.addresses import is_public
from server.media.blob import Blob
from server.media.sources import Link
from server.media.spool import Spool

MAX_REDIRECTS = 3
MAX_URL = 2048
REDIRECTS = (301, 302, 303, 307, 308)
PIECE = 1 << 16
HEADERS = {"Accept-Encoding": "identity", "User-Agent": "bindserve", "Accept": "*/*"}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class FetchError(BadRequest):
    """Raised when the URL cannot be fetched. The message reveals nothing about the server's
    network.
    """

    default_code = "url_not_fetched"


async def resolve(host: str, port: int) -> Sequence[str]:
    """Resolve a host name with the system's resolver. Raises OSError, UnicodeError."""
    loop = asyncio.get_running_loop()
    entries = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in entries]


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    # Seconds for the whole download, including name resolution and redirects.
    timeout_s: float = 10
    waiting: int = 64  # Maximum number of concurrent downloads; more downloads are rejected.
    ports: frozenset[int] = frozenset({80, 443})
    resolve: Resolve = resolve
    allowed: Callable[[str], bool] = is_public


@dataclass(frozen=True, slots=True)
class Hop:
    url: URL
    addresses: tuple[str, ...]


class Fetcher:
    def __init__(self, folder: Path, policy: FetchPolicy | None = None) -> None:
        """`folder`: the folder for the downloaded bytes."""
        self._folder = folder
        self._policy = policy or FetchPolicy()
        self.running = FairShare(self._policy.waiting)

    async def fetch(self, link: Link) -> Blob:
        """Download one file.

        Raises FetchError: when the URL cannot be fetched. Raises TooLarge.
        Raises Unavailable: when too many downloads are running.
        """
        if not self.running.take(caller := client()):
            raise Unavailable("too many URLs are being fetched", code="fetch_queue_full")
        try:
            async with asyncio.timeout(self._policy.timeout_s):
                return await self._follow(read_url(link.url), link.max_bytes)
        except TimeoutError:
            raise FetchError(
                f"fetching the URL took more than {self._policy.timeout_s:g} seconds"
            ) from None
        # do not send the exceptions' messages, which contain addresses
        except (aiohttp.ClientError, OSError, ValueError):
            raise FetchError("the URL cannot be fetched") from None
        finally:
            self.running.give_back(caller)

    async def _follow(self, url: URL, max_bytes: int) -> Blob:
        for _ in range(MAX_REDIRECTS + 1):
            hop = await self._check(url)
            async with (
                pinned_session(hop) as session,
                session.get(hop.url, allow_redirects=False, headers=HEADERS) as response,
            ):
                if response.status not in REDIRECTS:
                    return await self._read(response, max_bytes)
                target = read_url(response.headers.get("Location", ""), url)
            if url.scheme == "https" and target.scheme != "https":
                raise FetchError("the URL redirects from https to http")
            url = target
        raise FetchError(f"the URL redirects more than {MAX_REDIRECTS} times")

    async def _check(self, url: URL) -> Hop:
        """Resolve the host of the URL. Raises FetchError: when the server must not contact one of
        the addresses.
        """
        if url.scheme not in ("http", "https") or url.user is not None or url.password is not None:
            raise FetchError("expected an http or https URL without user name and password")
        host, port = url.raw_host, url.port
        if not host or port not in self._policy.ports:
            raise FetchError("the URL names no host, or a port that is not allowed")
        if ends_in_number(host):
            # An IP address is not resolved. Below, `allowed` rejects other forms of addresses, such
            # as 127.1.
            addresses: Sequence[str] = [host]
        else:
            addresses = await self._policy.resolve(host.rstrip("."), port)
        if not addresses or not all(map(self._policy.allowed, addresses)):
            raise FetchError("the URL leads to an address that is not allowed")
        return Hop(url, tuple(addresses))

    async def _read(self, response: aiohttp.ClientResponse, max_bytes: int) -> Blob:
        if response.status != 200:
            raise FetchError(f"the URL answers with status {response.status}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchError("the URL's server sent compressed bytes, which were not requested")
        if (response.content_length or 0) > max_bytes:
            raise TooLarge(f"the file is larger than {max_bytes} bytes")
        with Spool(self._folder, max_bytes) as spool:
            async for piece in response.content.iter_chunked(PIECE):
                # this write does not block, because the kernel only copies the small piece to the
                # page cache
                spool.write(piece)
            if not spool.size:
                raise FetchError("the URL answers with an empty file")
            return spool.blob()


def pinned_session(hop: Hop) -> aiohttp.ClientSession:
    """Create an HTTP session for one request. It has no cookies, proxy or decompression, and
    connects only to the checked addresses.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=Pinned(hop.addresses), use_dns_cache=False, force_close=True
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


class Pinned(AbstractResolver):
    """A resolver that returns only the checked addresses, because a second look-up of the name may
    give others.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family  # ignored, because the checked addresses can be IPv4 and IPv6
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        pass


def read_url(text: str, base: URL | None = None) -> URL:
    """Parse a URL. Both the checks and the connection use the result. Raises FetchError."""
    if not text or len(text) > MAX_URL:
        raise FetchError(f"expected a URL of at most {MAX_URL} characters")
    if any(character <= " " or character in "\\\x7f" for character in text):
        raise FetchError("the URL contains a character that is not allowed in URLs")
    try:
        url = URL(text)
        joined = url if base is None else base.join(url)
        return joined.with_fragment(None)
    except ValueError:
        raise FetchError("this is not a URL") from None


def ends_in_number(host: str) -> bool:
    """Whether a resolver may read `host` as an address, such as 127.1, 0x7f000001, 2130706433, or
    an IPv6 address.
    """
    if ":" in host:
        return True
    last = host.rstrip(".").rpartition(".")[2].lower()
    return last.isdigit() or last.startswith("0x")
