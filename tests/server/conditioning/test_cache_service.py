"""The application with a real retrieval service, which the tests kill under load and restart."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from cache_index.build import build_from_features
from cache_index.fit import Fit
from cache_index.remote import RemoteCache
from server.conditioning import retrieve
from server.conditioning.retrieve import Policy, Retriever
from tests.cache_index.services import TOKEN, Process, free_port
from tests.server.api.exchanges import CHAT, answer, check_error, image
from tests.server.application import Served, serve

ASK = {"model": "tiny", "messages": [{"role": "user", "content": [image(30)]}]}
EXPLAIN = {**ASK, "imagebind": {"cache": {"top_k": 2}, "explain": True}}
CLIENTS = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of eight two-dimensional unit vectors, which are 45 degrees apart."""
    folder = tmp_path_factory.mktemp("plane")
    angles = np.arange(8) * np.pi / 4
    np.save(folder / "f.npy", np.stack([np.cos(angles), np.sin(angles)], axis=1))
    (folder / "f.jsonl").write_text("".join(f'{{"id": "{45 * i}"}}\n' for i in range(8)))
    build_from_features(folder / "f.npy", folder / "cache", progress=False)
    return folder / "cache"


@pytest.fixture
def running() -> Iterator[list[Process]]:
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.end()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieve, "WATCH_S", 0.05)


@asynccontextmanager
async def served_with(url: str, policy: Policy) -> AsyncIterator[Served]:
    cache = RemoteCache([url], Fit(2), token=TOKEN, timeout=1.0)
    retriever = Retriever(cache, policy=policy)
    await retriever.start()
    served = serve(retriever=retriever)
    served.handler.answer = answer()
    async with served.client:
        yield served
    await retriever.close()


async def chat(served: Served, request: dict[str, Any] = ASK) -> httpx.Response:
    return await served.client.post(CHAT, json=request, timeout=20)


async def until_it_says(served: Served, path: str, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in (await served.client.get(path)).text:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("policy", ["off", "refuse"])
async def test_killed_under_load_requests_follow_the_policy(
    folder: Path, running: list[Process], policy: Policy
) -> None:
    running.append(Process(folder))
    outcomes: Counter[tuple[int, str]] = Counter()
    seen: list[tuple[int, str]] = []
    gone = (200, "unavailable") if policy == "off" else (503, "1")
    stop = asyncio.Event()

    async def load(served: Served) -> None:
        while not stop.is_set():
            response = await chat(served)
            header = "retry-after" if response.status_code == 503 else "x-bindserve-cache"
            seen.append((response.status_code, response.headers[header]))
            outcomes[seen[-1]] += 1
            await asyncio.sleep(0)

    async def until_all_are(outcome: tuple[int, str]) -> None:
        async with asyncio.timeout(60):
            while seen[-3 * CLIENTS :] != [outcome] * (3 * CLIENTS):
                await asyncio.sleep(0.01)

    async with served_with(running[0].url, policy) as served:
        tasks = [asyncio.create_task(load(served)) for _ in range(CLIENTS)]
        await until_all_are((200, "on"))
        running[0].end()
        await until_all_are(gone)
        if policy == "off":
            await until_it_says(served, "/ready", '"cache":"unavailable"')
        assert served.components.retriever.refuses == (policy == "refuse")
        await until_it_says(served, "/metrics", "bindserve_cache_up 0.0")
        alone = await chat(served, {**ASK, "imagebind": {"cache": False}})
        assert (alone.status_code, alone.headers["x-bindserve-cache"]) == (200, "off")
        running.append(await asyncio.to_thread(Process, folder, running[0].port))
        await until_all_are((200, "on"))
        await until_it_says(served, "/ready", '"cache":"on"')
        await until_it_says(served, "/metrics", "bindserve_cache_up 1.0")
        stop.set()
        await asyncio.gather(*tasks)
    assert outcomes.keys() == {(200, "on"), gone}


async def test_the_error_says_what_to_do() -> None:
    async with served_with(f"http://127.0.0.1:{free_port()}", "refuse") as served:
        message = check_error(
            await chat(served), 503, param="imagebind.cache", code="cache_unavailable"
        )
        assert "imagebind.cache = false" in message
        assert "127.0.0.1" not in message


async def test_explain_tells_what_was_found(folder: Path, running: list[Process]) -> None:
    running.append(Process(folder))
    async with served_with(running[0].url, "refuse") as served:
        body = (await chat(served, EXPLAIN)).json()["imagebind"]
    assert body["cache"] == "on"
    assert [(n["row"], n["id"]) for n in body["neighbors"]] == [(1, "45"), (0, "0")]
    similarity = [n["similarity"] for n in body["neighbors"]]
    np.testing.assert_allclose(similarity, np.cos(np.radians([15, 30])), atol=1e-3)
