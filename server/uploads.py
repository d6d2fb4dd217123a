"""Uploads: receives requests that carry files, so many at a time, into the scratch folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request

from server.errors import Unavailable
from server.form import Form, FormLimits, read_form


class Uploads:
    def __init__(self, folder: Path, limits: FormLimits, concurrent: int) -> None:
        """One more than `concurrent` at a time is refused: it bounds what they need on disk."""
        self._folder = folder
        self._limits = limits
        self._concurrent = concurrent
        self.running = 0

    @asynccontextmanager
    async def receive(
        self, request: Request, *, inline: frozenset[str] = frozenset()
    ) -> AsyncIterator[Form]:
        if self.running >= self._concurrent:
            raise Unavailable("too many uploads at the moment", code="too_many_uploads")
        self.running += 1
        try:
            async with read_form(request, self._folder, self._limits, inline=inline) as form:
                yield form
        finally:
            self.running -= 1
