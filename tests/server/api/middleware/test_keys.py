"""API keys: the routes that they open, their limits, and the key of the metrics."""

from pathlib import Path

import pytest

from server.api.middleware.auth import OPEN_PATHS, key_digest
from tests.server.api.exchanges import CHAT, HELLO, answer, check_error
from tests.server.application import Served, serve

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def matrix(served: Served) -> list[tuple[str, str]]:
    """Return all pairs of a method and a path of the application, also those without a route."""
    paths = set()
    for route in served.app.routes:
        path = getattr(route, "path", None)
        assert path is not None, f"{route} has no path, so the tests of API keys omit this route"
        paths.add(path)
    assert len(paths) >= 15
    return [(method, path) for path in sorted(paths) for method in METHODS]


@pytest.mark.parametrize("host", ["test", "evil.example", "127.0.0.1:1/health?", "[::1]"])
@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "right", "Bearer", "Basic right", "Bearer right right"]
)
async def test_no_route_but_the_health_checks_opens_without_a_key(
    header: str | None, host: str
) -> None:
    served = serve("right", "also right")
    headers = {"host": host} | ({} if header is None else {"authorization": header})
    opened = set()
    for method, path in matrix(served):
        response = await served.client.request(method, path, headers=headers)
        if response.status_code != 401:
            opened.add(path)
        elif method != "HEAD":  # HEAD has no response body.
            check_error(response, 401, code="invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
    assert opened == OPEN_PATHS == {"/health", "/ready"}
    for path in ("/v1/nope", "//health", "/health/", "/ready/..", "/HEALTH"):
        check_error(await served.client.get(path, headers=headers), 401)


@pytest.mark.parametrize("key", ["right", "also right"])
async def test_every_route_opens_with_a_key(key: str) -> None:
    served = serve("right", "also right")
    served.handler.answer = answer()
    headers = {"authorization": f"bearer {key}"}
    for method, path in matrix(served):
        response = await served.client.request(method, path, headers=headers)
        assert response.status_code != 401, path
        if response.status_code >= 400 and method != "HEAD":
            check_error(response, response.status_code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"x-api-key": "one"}, 200),
        ({"x-api-key": "two"}, 401),
        ({"x-api-key": ""}, 401),
        ({"x-api-key": "two", "authorization": "Bearer one"}, 200),
        ({"x-api-key": "one", "authorization": "Bearer two"}, 401),
    ],
)
async def test_the_header_of_anthropics_client(headers: dict[str, str], status: int) -> None:
    served = serve("one")
    assert (await served.client.get("/v1/models", headers=headers)).status_code == status
    body = {"messages": "none"}  # The route rejects this body with 400.
    response = await served.client.post("/v1/messages", json=body, headers=headers)
    assert response.status_code == (400 if status == 200 else 401)


async def test_the_key_is_part_of_the_salt() -> None:
    served = serve("one", "two")
    served.handler.answer = answer()
    for key in ("one", "two"):
        headers = {"authorization": f"Bearer {key}"}
        await served.client.post(CHAT, json={"messages": HELLO}, headers=headers)
    assert served.handler.salts == [key_digest(key).hex() for key in ("one", "two")]


async def test_preflight_requests_of_allowed_origins_need_no_key() -> None:
    asking = {"origin": "https://page", "access-control-request-method": "POST"}
    closed = serve("right")
    check_error(await closed.client.options(CHAT, headers=asking), 401)
    opened = serve("right", flags={"allowed_origins": ["https://page"]})
    response = await opened.client.options(CHAT, headers=asking)
    assert response.headers["access-control-allow-origin"] == "https://page"
    check_error(await opened.client.post(CHAT, json={}, headers={"origin": "https://page"}), 401)


async def test_each_key_has_its_limits() -> None:
    served = serve("one", "two", key_requests_per_minute=2)

    async def status(key: str, path: str = "/v1/models") -> int:
        response = await served.client.get(path, headers={"authorization": f"Bearer {key}"})
        if response.status_code == 429:
            check_error(response, 429, code="rate_limit_exceeded", type="rate_limit_error")
            assert 1 <= int(response.headers["retry-after"]) <= 30
        return response.status_code

    assert [await status("one") for _ in range(3)] == [200, 200, 429]
    assert [await status("two") for _ in range(3)] == [200, 200, 429]
    assert await status("one", "/health") == 200
    assert await status("wrong") == 401


@pytest.mark.parametrize("path", ["/metrics", "/api/metrics"])
async def test_only_the_operators_key_reads_the_metrics(tmp_path: Path, path: str) -> None:
    (tmp_path / "key").write_text("operator\n")
    root = path.removesuffix("/metrics")
    served = serve("client", flags={"root_path": root}, metrics_key_file=tmp_path / "key")

    async def status(path: str, key: str) -> int:
        response = await served.client.get(path, headers={"authorization": f"Bearer {key}"})
        return response.status_code

    assert [await status(path, key) for key in ("operator", "client", "")] == [200, 401, 401]
    assert [await status("/v1/models", key) for key in ("operator", "client")] == [401, 200]


async def test_the_metrics_can_need_a_key_when_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("operator\n")
    served = serve(metrics_key_file=tmp_path / "key")
    check_error(await served.client.get("/metrics"), 401)
    assert (await served.client.get("/v1/models")).status_code == 200
