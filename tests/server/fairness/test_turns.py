"""The order in which the waiting work of several clients goes on."""

import asyncio

from server.fairness.turns import Turns


async def steps(turns: Turns, clients: str) -> str:
    """Let one task per letter, the name of its client, wait for a turn. Returns their order."""
    order = ""

    async def task(client: str) -> None:
        nonlocal order
        await turns.step(client)
        order += client

    await asyncio.gather(*(task(client) for client in clients))
    return order


async def test_a_client_with_one_task_waits_for_one_task_of_each_other_client() -> None:
    turns = Turns()
    # The first task does not wait, so it does not count.
    assert await steps(turns, "a" + "a" * 8 + "b") == "a" + "ab" + "a" * 7
    assert await steps(turns, "a" + "aabbbc") == "a" + "abcabb"


async def test_a_free_turn_does_not_wait() -> None:
    turn = Turns().step("a")
    try:
        turn.send(None)
    except StopIteration:
        return
    raise AssertionError("the task waits")


async def test_one_task_goes_on_per_iteration_of_the_event_loop() -> None:
    turns, running, most = Turns(), 0, 0

    async def task() -> None:
        nonlocal running, most
        await turns.step("a")
        running += 1
        most = max(most, running)
        asyncio.get_running_loop().call_soon(end)

    def end() -> None:
        nonlocal running
        running -= 1

    await asyncio.gather(*(task() for _ in range(50)))
    assert most == 1


async def test_a_cancelled_task_loses_its_turn() -> None:
    turns = Turns()
    async with turns.turn("a"):
        waiting = [asyncio.ensure_future(turns.step(client)) for client in "bcd"]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    waiting[1].cancel()  # it has its turn, but has not gone on yet
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in done] == [asyncio.CancelledError] * 2 + [type(None)]
    assert await steps(turns, "ab") == "ab"
