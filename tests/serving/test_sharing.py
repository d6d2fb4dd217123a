"""Requests that share a batch and the prefix cache do not share their conditioning.

Same prompt, other attachment: not one block in common. Same attachment: blocks are shared. Every
answer is what the request gets alone. Fails if nothing was really shared.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.launch import Runner, Server, serve

pytestmark = pytest.mark.engine

REQUESTS: dict[Runner, int] = {"v1": 64, "v2": 16}  # V2 is interpreted here: slow
ATTACHMENTS = 8
# At least three blocks of 32 tokens.
LONG = " ".join(f"Look closely, and describe scene number {i} in all detail." for i in range(8))


@pytest.fixture(scope="module", params=["v1", "v2"])
def server(
    request: pytest.FixtureRequest, tiny_models: dict[str, Path], tmp_path_factory: Any
) -> Iterator[tuple[Server, int]]:
    log = tmp_path_factory.mktemp("sharing") / "log"
    with serve(tiny_models["finetune"], log, "--cache=none", runner=request.param) as server:
        yield server, REQUESTS[request.param]


def ask(server: Server, attachment: int) -> tuple[list[int], int, int]:
    """(generated ids, prompt tokens, how many of them came from the prefix cache)."""
    vector = np.random.default_rng(attachment).standard_normal(40)
    part = {"type": "imagebind_embedding", "imagebind_embedding": {"data": vector.tolist()}}
    body: Any = server.chat(
        messages=[{"role": "user", "content": [part, {"type": "text", "text": LONG}]}],
        temperature=0,
        max_tokens=16,
        ignore_eos=True,
        return_token_ids=True,
    )
    usage = body["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return body["choices"][0]["token_ids"], usage["prompt_tokens"], cached


def test_each_gets_its_own_answer(server: tuple[Server, int]) -> None:
    running, count = server
    requests = [i % ATTACHMENTS for i in range(count)]
    with ThreadPoolExecutor(count) as pool:
        first = list(pool.map(lambda a: ask(running, a), requests))
        again = list(pool.map(lambda a: ask(running, a), requests))
    alone = {a: ask(running, a)[0] for a in range(ATTACHMENTS)}

    assert min(prompt for _, prompt, _ in first) >= 3 * 32
    assert [ids for ids, _, _ in first] == [alone[a] for a in requests]
    assert [ids for ids, _, _ in again] == [alone[a] for a in requests]
    assert len({tuple(ids) for ids in alone.values()}) == ATTACHMENTS  # they do differ
    assert all(cached >= 3 * 32 for _, _, cached in again)  # and blocks were shared


def test_another_attachment_shares_no_block(server: tuple[Server, int]) -> None:
    running, _ = server
    new, old = 1000, 1000
    assert ask(running, new)[2] == 0  # all blocks of the same text are there, of other attachments
    assert ask(running, old)[2] >= 3 * 32
