"""Downloads from a server on this machine. Only allowed URLs reach the server."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from server.errors import BadRequest, RequestError, TooLarge, Unavailable
from server.media.fetch import Fetcher, FetchError, FetchPolicy, read_url
from server.media.sources import Link

DATA = bytes(range(256)) * 1000
NAMES = {  # the addresses that a fake name server returns
    "media.test": ["127.0.0.1"],
    "localhost": ["127.0.0.1"],
    "localhost.localdomain": ["127.0.0.1"],
    "both.test": ["93.184.216.34", "127.0.0.1"],
    "six.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "zero.test": ["0.0.0.0"],
    "private.test": ["10.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::"],
    "ulaut.test": ["fd00::1"],
    "nowhere.test": [],
    "xn--mller-kva.test": ["127.0.0.1"],
    "public.test": ["93.184.216.34"],
}


async def names(host: str, port: int) -> Sequence[str]:
    assert port
    if host.lower() not in NAMES:
        raise OSError("no such name")
    return NAMES[host.lower()]


@dataclass
class Site:
    port: int
    hits: list[str] = field(default_factory=list)

    def policy(self, **changes: Any) -> FetchPolicy:
        """Return the default policy, which also allows the port of this test server."""
        ports = frozenset({80, 443, self.port})
        return FetchPolicy(**{"ports": ports, "resolve": names, "timeout_s": 5, **changes})

    def url(self, path: str = "/file", host: str = "media.test") -> str:
        return f"http://{host}:{self.port}{path}"


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path.split("/")[1:]:
        case ["file"]:
            return web.Response(body=DATA)
        case ["hop", "0"]:
            return web.Response(body=DATA)
        case ["hop", number]:
            raise web.HTTPFound(f"/hop/{int(number) - 1}")
        case ["to"]:
            return web.Response(status=302, headers={"Location": request.query["url"]})
        case ["compressed"]:
            body = gzip.compress(bytes(1 << 20))
            return web.Response(body=body, headers={"Content-Encoding": "gzip"})
        case ["endless", kind]:
            response = web.StreamResponse()
            await response.prepare(request)
            while True:
                await response.write(b"x" * (1 if kind == "slow" else 1 << 16))
                await asyncio.sleep(0.05 if kind == "slow" else 0)
        case ["status", status]:
            return web.Response(status=int(status), text="internal")
        case ["empty"]:
            return web.Response()
        case ["headers"]:
            return web.json_response(dict(request.headers))
        case ["long-header"]:
            return web.Response(headers={"X": "x" * 20_000})
    raise web.HTTPNotFound


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site(0)

    @web.middleware
    async def count(request: web.Request, handler: Any) -> web.StreamResponse:
        site.hits.append(request.path)
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[count])
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    site.port = runner.addresses[0][1]
    yield site
    await runner.cleanup()


async def fetch(folder: Path, policy: FetchPolicy, url: str, max_bytes: int = 1 << 20) -> bytes:
    content = await Fetcher(folder, policy).fetch(Link(url, max_bytes))
    return b"".join([piece async for piece in content.pieces()])


# URLs that bindserve must not download. The tests replace PORT by the port of their server. A URL
# without PORT uses the default port of its scheme.
HOSTILE = [
    "http://127.0.0.1:PORT/file",
    "http://127.0.0.1/file",
    "http://127.1:PORT/file",
    "http://127.0.1:PORT/file",
    "http://2130706433:PORT/file",
    "http://0x7f000001:PORT/file",
    "http://0x7f.0.0.1:PORT/file",
    "http://0X7F.1:PORT/file",
    "http://017700000001:PORT/file",
    "http://0177.0.0.1:PORT/file",
    "http://127.0.0.1.:PORT/file",
    "http://127.000.000.001:PORT/file",
    "http://0:PORT/file",
    "http://0.0.0.0:PORT/file",
    "http://①②⑦.⓪.⓪.①:PORT/file",
    "http://１２７.0.0.1:PORT/file",
    "http://127。0。0。1:PORT/file",
    "http://%31%32%37.0.0.1:PORT/file",
    "http://[::1]:PORT/file",
    "http://[::]:PORT/file",
    "http://[::ffff:127.0.0.1]:PORT/file",
    "http://[::ffff:7f00:1]:PORT/file",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/file",
    "http://[::127.0.0.1]:PORT/file",
    "http://[64:ff9b::127.0.0.1]:PORT/file",
    "http://[2002:7f00:1::]:PORT/file",
    "http://[fe80::1%25eth0]:PORT/file",
    "http://[::1%25lo]:PORT/file",
    "http://10.0.0.1/",
    "http://192.168.0.1/",
    "http://172.16.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://localhost:PORT/file",
    "http://LOCALHOST:PORT/file",
    "http://localhost.:PORT/file",
    "http://localhost.localdomain:PORT/file",
    "http://media.test:PORT/file",
    "http://both.test:PORT/file",
    "http://six.test:PORT/file",
    "http://mapped.test:PORT/file",
    "http://zero.test:PORT/file",
    "http://private.test/",
    "http://nat64.test:PORT/file",
    "http://sixtofour.test:PORT/file",
    "http://ulaut.test:PORT/file",
    "http://nowhere.test:PORT/file",
    "http://unknown.test:PORT/file",
    "http://müller.test:PORT/file",
    "http://public.test@127.0.0.1:PORT/file",
    "http://public.test:80@127.0.0.1:PORT/file",
    "http://127.0.0.1:PORT@public.test/file",
    "http://user:password@media.test:PORT/file",
    "http://@127.0.0.1:PORT/file",
    "http://127.0.0.1:PORT#@public.test/file",
    "http://127.0.0.1:PORT?@public.test/",
    "http://127.0.0.1:PORT\\@public.test/file",
    "http://public.test\\@127.0.0.1:PORT/file",
    "http://127.0.0.1:PORT/file\r\nHost: public.test",
    "http://127.0.0.1\t:PORT/file",
    "http:// 127.0.0.1:PORT/file",
    "http:127.0.0.1:PORT/file",
    "http:///127.0.0.1:PORT/file",
    "http://public.test:22/",
    "http://public.test:6379/",
    "http://public.test:99999/",
    "http://public.test:-1/",
    "http://:PORT/file",
    "http://",
    "https://127.0.0.1:PORT/file",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "ftp://127.0.0.1:PORT/file",
    "gopher://127.0.0.1:PORT/_GET%20/file",
    "dict://127.0.0.1:PORT/",
    "jar:http://127.0.0.1:PORT/file!/",
    "unix:/run/docker.sock",
    "http+unix://%2Frun%2Fdocker.sock/info",
    "//127.0.0.1:PORT/file",
    "/file",
    "",
    "http://media.test:PORT/" + "a" * 3000,
]


@pytest.mark.parametrize("form", HOSTILE)
async def test_no_hostile_form_is_fetched(site: Site, tmp_path: Path, form: str) -> None:
    with pytest.raises(FetchError) as caught:
        await fetch(tmp_path, site.policy(), form.replace("PORT", str(site.port)))
    assert caught.value.status == 400
    assert "127." not in caught.value.message
    assert site.hits == []


async def test_the_suite_would_notice(site: Site, tmp_path: Path) -> None:
    """Check that the test of hostile URLs can fail: if bindserve does not check addresses, many of
    the URLs reach the server.
    """
    assert len(set(HOSTILE)) == len(HOSTILE) >= 80
    policy = site.policy(allowed=lambda _: True, timeout_s=0.5)
    for form in HOSTILE:
        with contextlib.suppress(BadRequest):
            await fetch(tmp_path, policy, form.replace("PORT", str(site.port)))
    assert len(site.hits) >= 10


def loopback(address: str) -> bool:
    return address == "127.0.0.1"


async def test_an_allowed_url(site: Site, tmp_path: Path) -> None:
    policy = site.policy(allowed=loopback)
    assert await fetch(tmp_path, policy, site.url()) == DATA
    assert await fetch(tmp_path, policy, site.url("/hop/3")) == DATA
    assert not list(tmp_path.iterdir())  # The open file has no name in the folder.
    for url in (site.url("/hop/4"), site.url("/status/404"), site.url("/status/500")):
        with pytest.raises(FetchError):
            await fetch(tmp_path, policy, url)


@pytest.mark.parametrize(
    "target",
    [
        "http://private.test/",
        "http://10.0.0.1/",
        "http://[::1]:PORT/file",
        "http://169.254.169.254/latest/",
        "//10.0.0.1/",
        "file:///etc/passwd",
        "ftp://media.test/",
        "http://a:b@media.test:PORT/file",
        "http://media.test:22/file",
        "http://both.test:PORT/file",
        "",
        "http://media.test:PORT\\@x/",
    ],
)
async def test_every_redirect_is_checked(site: Site, tmp_path: Path, target: str) -> None:
    policy = site.policy(allowed=loopback)
    url = site.url(f"/to?url={quote(target.replace('PORT', str(site.port)))}")
    with pytest.raises(FetchError):
        await fetch(tmp_path, policy, url)
    assert site.hits == ["/to"]


async def test_the_connection_goes_where_the_check_looked(site: Site, tmp_path: Path) -> None:
    """The download resolves the host name only once, so it does not use the second address."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def rebinding(host: str, port: int) -> Sequence[str]:
        assert (host, port) == ("media.test", site.port)
        return next(answers)

    policy = site.policy(resolve=rebinding, allowed=loopback)
    assert await fetch(tmp_path, policy, site.url()) == DATA
    assert next(answers) == ["10.0.0.1"]


async def test_no_redirect_leaves_encryption() -> None:
    joined = read_url("http://x/", read_url("https://y/a"))
    assert joined.scheme == "http"
    assert read_url("b#c", read_url("https://y/a")).human_repr() == "https://y/b"


async def test_sizes_are_bounded_declared_or_not(site: Site, tmp_path: Path) -> None:
    policy = site.policy(allowed=loopback)
    assert await fetch(tmp_path, policy, site.url(), len(DATA)) == DATA
    for path in ("/file", "/endless/fast"):
        with pytest.raises(TooLarge, match="larger than 1000 bytes"):
            await fetch(tmp_path, policy, site.url(path), 1000)
    assert not list(tmp_path.iterdir())


async def test_time_is_bounded(site: Site, tmp_path: Path) -> None:
    async def slow(host: str, port: int) -> Sequence[str]:
        del host, port
        await asyncio.sleep(60)
        return []

    for policy in (
        site.policy(allowed=loopback, timeout_s=0.3),
        site.policy(resolve=slow, timeout_s=0.1),
    ):
        with pytest.raises(FetchError, match="took more than"):
            await fetch(tmp_path, policy, site.url("/endless/slow"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/compressed", "/empty", "/long-header"])
async def test_bad_responses_are_rejected(site: Site, tmp_path: Path, path: str) -> None:
    with pytest.raises(FetchError):
        await fetch(tmp_path, site.policy(allowed=loopback), site.url(path))


async def test_no_proxy_of_the_environment(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://10.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:1")
    headers = await fetch(tmp_path, site.policy(allowed=loopback), site.url("/headers"))
    assert b'"Host": "media.test' in headers
    assert b'"Accept-Encoding": "identity"' in headers


async def test_concurrent_fetches_are_limited(site: Site, tmp_path: Path) -> None:
    fetcher = Fetcher(tmp_path, site.policy(allowed=loopback, waiting=1, timeout_s=1))
    first = asyncio.ensure_future(fetcher.fetch(Link(site.url("/endless/slow"), 100)))
    await asyncio.sleep(0.05)
    with pytest.raises(Unavailable) as caught:
        await fetcher.fetch(Link(site.url(), 100))
    assert caught.value.code == "fetch_queue_full"
    first.cancel()
    with pytest.raises((asyncio.CancelledError, RequestError)):
        await first
    assert fetcher.running.used == 0
    assert not list(tmp_path.iterdir())
