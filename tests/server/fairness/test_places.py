"""Clients wait for the places of a limit, and get free places in turn."""

import asyncio

import pytest

from server.fairness.places import Places


async def order(places: Places, clients: str) -> str:
    """Let one task per letter, the name of its client, hold a place. Returns the order in which the
    tasks get places.
    """
    begun = ""

    async def task(client: str) -> None:
        nonlocal begun
        async with places.place(client, 5):
            begun += client
            await asyncio.sleep(0.001)

    await asyncio.gather(*(task(client) for client in clients))
    return begun


async def test_waiting_clients_get_places_in_turn() -> None:
    places = Places(2)
    assert await order(places, "aaaabbc") == "ab" + "abcaa"
    assert places.share.used == 0
    assert not places._waiting


async def test_a_task_waits_at_most_the_given_time() -> None:
    places = Places(1)
    async with places.place("a", 1):
        with pytest.raises(TimeoutError):
            async with places.place("b", 0.01):
                pass
        waiting = asyncio.ensure_future(order(places, "c"))
        await asyncio.sleep(0)
    assert await waiting == "c"
    assert places.share.used == 0


async def test_a_cancelled_task_passes_its_place_on() -> None:
    places = Places(1)
    async with places.place("a", 1):
        waiting = [asyncio.ensure_future(order(places, each)) for each in "bc"]
        await asyncio.sleep(0)
    waiting[0].cancel()  # it has a place, but has not gone on yet
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] == "c"
    assert places.share.used == 0
