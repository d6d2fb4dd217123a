"""The routes of the web page: its headers, and which paths are open without an API key."""

import gzip
from pathlib import Path

import pytest

from server.api.routes.page import FOLDER
from tests.server.api.exchanges import check_error
from tests.server.application import serve

NAMES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.*"))
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/examples.json"])
async def test_without_the_setting_there_is_no_page(path: str) -> None:
    check_error(await serve().client.get(path), 404)
    response = await serve("key").client.get(path)
    check_error(response, 401)


async def test_the_files_need_no_key_and_other_paths_do() -> None:
    served = serve("key", page=True, key_requests_per_minute=1)
    for name in NAMES:
        response = await served.client.get(f"/page/{name}")
        assert response.status_code == 200, name
        assert response.content == (FOLDER / name).read_bytes()
        assert response.headers["content-security-policy"] == POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
    index = await served.client.get("/")
    assert index.content == (FOLDER / "index.html").read_bytes()
    assert index.headers["content-security-policy"] == POLICY
    for path in ("/v1/models", "/page", "/openapi.json", "/metrics", "/v1/files"):
        check_error(await served.client.get(path), 401)


@pytest.mark.parametrize(
    "name", ["none.js", "../routes/page.py", "%2e%2e/settings.py", "/etc/passwd", "mix", ""]
)
async def test_no_other_files_are_served(name: str) -> None:
    served = serve(page=True)
    check_error(await served.client.get(f"/page/{name}"), 404)


async def test_types_of_the_files() -> None:
    client = serve(page=True).client
    types = {name: (await client.get(f"/page/{name}")).headers["content-type"] for name in NAMES}
    assert types["main.js"] == "text/javascript; charset=utf-8"
    assert types["style.css"] == "text/css; charset=utf-8"
    assert types["icon.svg"] == "image/svg+xml"
    assert set(types.values()) == {
        *("text/html; charset=utf-8", "text/javascript; charset=utf-8"),
        *("text/css; charset=utf-8", "image/svg+xml"),
    }


async def test_an_unchanged_file_is_not_sent_again() -> None:
    client = serve(page=True).client
    first = await client.get("/page/main.js")
    again = await client.get("/page/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == "no-cache"
    plain = await client.get("/page/main.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert first.headers["content-encoding"] == "gzip"
    assert first.content == plain.content
    head = await client.head("/")
    assert (head.status_code, head.content) == (200, b"")


async def test_examples_are_listed_and_downloaded(tmp_path: Path) -> None:
    (tmp_path / "a cat.jpg").write_bytes(b"<script>")
    (tmp_path / "folder").mkdir()
    client = serve("key", page=True, page_examples=tmp_path).client
    assert (await client.get("/page/examples.json")).json() == ["a cat.jpg"]
    response = await client.get("/page/examples/a%20cat.jpg")
    assert response.content == b"<script>"
    assert response.headers["content-type"] == "application/octet-stream"
    assert (await serve(page=True).client.get("/page/examples.json")).json() == []


async def test_behind_a_path_prefix() -> None:
    served = serve("key", page=True, flags={"root_path": "/prefix"})
    assert (await served.client.get("/prefix/page/main.js")).status_code == 200
    assert (await served.client.get("/prefix/")).status_code == 200
    redirect = await served.client.get("/prefix")
    assert redirect.status_code == 307
    assert redirect.headers["location"].endswith("/prefix/")


def test_the_source_is_small() -> None:
    sources = [(FOLDER / name).read_bytes() for name in NAMES]
    assert len(NAMES) > 15
    assert sum(map(len, sources)) <= 120 * 1024
    assert sum(len(gzip.compress(source)) for source in sources) <= 40 * 1024


@pytest.mark.parametrize(
    "forbidden",
    [
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"),
        *(
            "new Function",
            "localStorage",
            "indexedDB",
            "document.cookie",
            "createContextualFragment",
        ),
        *("srcdoc", "javascript:", "style=", 'onclick="', "://"),
    ],
)
def test_the_source_has_no_such_text(forbidden: str) -> None:
    for name in NAMES:
        source = (FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
        # The page's snippets for curl refer to uploaded files by this URL scheme.
        assert forbidden not in source.replace("attachment://", ""), name
