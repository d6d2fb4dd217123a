"""The web page at /: the static files of server/page, without API keys.

The files are read once, when the application is created. The page's scripts call the same routes as
other clients, with the visitor's API key.
"""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from server.errors import NotFound

FOLDER = Path(__file__).parents[2] / "page"
PREFIX = "/page/"
INDEX = "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # A browser caches the file, and asks the server before each use whether the file has changed.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    content: bytes
    compressed: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, suffix: str) -> "PageFile":
        media_type = MEDIA_TYPES.get(suffix, "application/octet-stream")
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        return cls(content, gzip.compress(content, mtime=0), media_type, etag)

    def response(self, request: Request) -> Response:
        headers = {**HEADERS, "ETag": self.etag}
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(self.compressed, headers=headers, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


def is_page(path: str) -> bool:
    """Whether a path belongs to the page. The path "" is the root path without a slash at its end,
    which the router redirects to "/".
    """
    return path in ("", "/") or path.startswith(PREFIX)


def add_page(app: FastAPI, examples: Path | None) -> None:
    """Add the page's routes. `examples`: a folder with files that the page offers, or None."""
    files = read_files(examples)
    router = APIRouter()

    @router.head("/", include_in_schema=False)
    @router.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        return files[INDEX].response(request)

    @router.head(PREFIX + "{name:path}", include_in_schema=False)
    @router.get(PREFIX + "{name:path}", include_in_schema=False)
    async def page_file(request: Request, name: str) -> Response:
        if name not in files:
            raise NotFound("the page has no such file")
        return files[name].response(request)

    app.include_router(router)


def read_files(examples: Path | None) -> Mapping[str, PageFile]:
    """Read the page's files and the examples, by their path below /page/."""
    files = {
        path.relative_to(FOLDER).as_posix(): PageFile.of(path.read_bytes(), path.suffix)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in MEDIA_TYPES
    }
    names = []
    for path in sorted(examples.iterdir()) if examples else ():
        if path.is_file():
            names.append(path.name)
            files[f"examples/{path.name}"] = PageFile.of(path.read_bytes(), "")
    files["examples.json"] = PageFile.of(json.dumps(names).encode(), ".json")
    return files
