"""The application with fake encoders, two API keys and a runner of batches."""

from collections.abc import AsyncIterator

import pytest

from server.api.batches.runner import running
from server.api.state import state_of
from tests.server.api.exchanges import answer
from tests.server.application import Served, serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve("first", "second", owner_batches=3, batch_requests=4, max_batch_line_bytes=500)
    served.client.headers["authorization"] = "Bearer first"
    served.handler.answer = answer()
    async with served.client, running(state_of(served.app).batches):
        yield served
