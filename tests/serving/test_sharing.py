"""Requests that share a batch and the prefix cache do not share their conditioning.

Requests with equal prompts share cached blocks only if their attachments are equal. Every answer
equals the answer to the same request alone. The tests fail if no block was shared.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.serving.launch import PLAIN, Server

pytestmark = pytest.mark.engine

REQUESTS = 64  # number of concurrent requests
ATTACHMENTS = 8
# The prompt has at least three blocks of 32 tokens.
LONG = " ".join(f"Look closely, and describe scene number {i} in all detail." for i in range(8))


def ask(server: Server, attachment: int) -> tuple[list[int], int, int]:
    """Send a request. Return (generated ids, prompt tokens, prompt tokens from the prefix
    cache).
    """
    vector = np.random.default_rng(attachment).standard_normal(40)
    part = {"type": "imagebind_embedding", "imagebind_embedding": {"data": vector.tolist()}}
    body: Any = server.chat(
        messages=[{"role": "user", "content": [part, {"type": "text", "text": LONG}]}],
        temperature=0,
        max_tokens=16,
        imagebind={"cache": False},
        ignore_eos=True,
        return_token_ids=True,
    )
    usage = body["usage"]
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return body["choices"][0]["token_ids"], usage["prompt_tokens"], cached


@pytest.mark.parametrize("spec", [PLAIN], ids=str)
def test_batched_answers_equal_solo_answers(server: Server) -> None:
    check_own_answers(server, REQUESTS)


def check_own_answers(server: Server, count: int) -> None:
    """Check that answers to `count` concurrent requests equal the answers to single requests."""
    requests = [i % ATTACHMENTS for i in range(count)]
    with ThreadPoolExecutor(len(requests)) as pool:
        first = list(pool.map(lambda a: ask(server, a), requests))
        again = list(pool.map(lambda a: ask(server, a), requests))
    alone = {a: ask(server, a)[0] for a in range(ATTACHMENTS)}

    assert min(prompt for _, prompt, _ in first) >= 3 * 32
    assert [ids for ids, _, _ in first] == [alone[a] for a in requests]
    assert [ids for ids, _, _ in again] == [alone[a] for a in requests]
    # Different attachments have different answers, and the second requests used cached blocks.
    assert len({tuple(ids) for ids in alone.values()}) == ATTACHMENTS
    assert all(cached >= 3 * 32 for _, _, cached in again)


@pytest.mark.parametrize("spec", [PLAIN], ids=str)
def test_another_attachment_shares_no_block(server: Server) -> None:
    ask(server, 0)
    assert ask(server, 1000)[2] == 0  # The cached blocks belong to attachment 0.
    assert ask(server, 1000)[2] >= 3 * 32
