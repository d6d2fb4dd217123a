"""The application with two API keys."""

from collections.abc import AsyncIterator

import pytest

from tests.server.api.exchanges import answer
from tests.server.application import Served, serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve("first", "second")
    served.handler.answer = answer()
    served.client.headers["authorization"] = "Bearer first"
    async with served.client:
        yield served
