"""Places: how many requests of batches run at the same time."""

import asyncio
from typing import Any

from server.api.batches.places import BatchPlaces
from server.api.middleware.auth import key_digest
from server.api.state import state_of
from server.context import BATCHES, key_salt
from server.errors import Unavailable
from server.fairness.share import FairShare
from tests.server.api.batches.batch_files import BATCH, create, ended, line, upload
from tests.server.application import Served


async def test_a_request_that_waits_has_no_place(served: Served) -> None:
    """The batch of the other key ends while all requests of the first batch wait."""
    fake, go = served.components.components, False
    decode = fake.decode

    async def full(modality: Any, *args: Any) -> Any:
        if key_salt() == key_digest("first").hex() and not go:
            raise Unavailable("full", code="encode_queue_full")
        return await decode(modality, *args)

    fake.decode = full  # type: ignore[method-assign]
    file_id = await upload(served, *(line(str(k), {"input": str(k)}) for k in range(6)))
    first = (await create(served, file_id)).json()
    served.client.headers["authorization"] = "Bearer second"
    file_id = await upload(served, line("a", {"input": "90"}), key="second")
    other = await ended(served, (await create(served, file_id)).json()["id"])
    assert other["request_counts"]["completed"] == 1
    served.client.headers["authorization"] = "Bearer first"
    counts = (await served.client.get(f"{BATCH}/{first['id']}")).json()["request_counts"]
    assert counts == {"total": 6, "completed": 0, "failed": 0}
    go = True
    assert (await ended(served, first["id"]))["request_counts"]["completed"] == 6
    assert state_of(served.app).batches._tools.places._taken == 0


async def test_other_requests_take_places_away_except_the_last() -> None:
    running = FairShare(100)
    places = BatchPlaces(3, running)
    for _ in range(2):
        await places.take()
        running.add(BATCHES)
    running.add("interactive", 5)
    third = asyncio.ensure_future(places.take())
    await asyncio.sleep(0.1)
    assert not third.done()
    running.give_back("interactive", 5)
    await third
    for _ in range(3):
        places.give_back()
    running.add("interactive", 50)
    await places.take()  # batches always get one place
