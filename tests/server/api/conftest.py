"""The application with a fake engine, which answers every chat."""

from collections.abc import AsyncIterator

import pytest

from tests.server.api.exchanges import answer
from tests.server.application import Served, serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve()
    served.handler.answer = answer()
    async with served.client:
        yield served
