"""Send hostile requests for grounding to a running server, mixed with good requests.

    python -m tests.serving.grounding --url http://127.0.0.1:8000 --model demo --requests 5000

The hostile requests have wrong options, hundreds of nouns, and damaged, huge, tiny, very long or
missing pictures and videos. After every fifth one, the program sends a good request. The run fails
if a response has a status of 500 or above, or if the nouns or boxes of a good request differ from
those of the same request alone. The server needs a detector of embeddings and a parser. Exits with
status 1 on a failure.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.serving.fields import Json, Report, send
from tests.serving.grounding_requests import THRESHOLD, good_requests, hostile

CLIENTS, EVERY = 16, 5
TOLERANCE = 0.1  # Batches change boxes by less, in pixels, and scores by less, in percent.


def objects(value: Any) -> Iterator[Json]:
    """Yield all objects in a JSON document."""
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value:
        if isinstance(child, dict | list):
            yield from objects(child)


async def boxes_of(client: httpx.AsyncClient, path: str, body: Json) -> dict[str, Any] | None:
    """Send a good request. Returns the boxes of each noun or query, with scores in percent. Returns
    None if the answer has no grounding, because the detector was too slow.
    """
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text[:500]
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: {")]
    groups: dict[str, Any] = {}
    for each in objects([json.loads(text) for text in events or [response.text]]):
        if each.get("grounding", each) is None:
            return None
        if "found" in each or "query" in each:
            boxes = groups.setdefault(f"{each.get('span')} {each.get('query')}", [])
            for box in each.get("boxes", [each]):
                boxes.append([*box["box"].values(), 100 * box["score"], box.get("time", 0)])
    return groups


def count(groups: dict[str, Any] | None) -> int:
    return sum(len(clear(boxes)) for boxes in (groups or {}).values())


def comparison(one: dict[str, Any] | None, other: dict[str, Any] | None) -> str:
    """Compare all boxes, except boxes whose score is near the threshold."""
    if one is None or other is None:
        return "no grounding"
    equal = one.keys() == other.keys() and all(
        boxes.shape == others.shape and np.allclose(boxes, others, rtol=0, atol=TOLERANCE)
        for boxes, others in zip(map(clear, one.values()), map(clear, other.values()), strict=True)
    )
    return "equal" if equal else "different"


def clear(boxes: list[list[float]]) -> NDArray[np.float64]:
    """Return the boxes (N, 6) whose score is clearly above the threshold, in a fixed order."""
    kept = sorted(box for box in boxes if box[4] > 100 * THRESHOLD + TOLERANCE)
    return np.array(kept).reshape(-1, 6)


async def attack(url: str, model: str, total: int, seed: int) -> tuple[Report, Counter[str]]:
    dice, report, results = random.Random(seed), Report(), Counter[str]()
    good = [(path, body | {"model": model}) for path, body in good_requests()]
    # Each request opens a new connection, so that a keep-alive timeout cannot cause an error.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=600, limits=limits) as client:
        alone = [await boxes_of(client, *each) for each in good]
        print(f"boxes of the good requests alone: {[count(each) for each in alone]}", flush=True)
        numbers = iter(range(total))

        async def send_some() -> None:
            for number in numbers:
                if number % EVERY == 0:
                    index = number // EVERY % len(good)
                    boxes = await boxes_of(client, *good[index])
                    results[comparison(boxes, alone[index])] += 1
                path, body = hostile(dice)
                await send(client, path, body | {"model": model}, report)
                if number % 100 == 0:
                    print(number, dict(report.statuses), dict(results), flush=True)

        await asyncio.gather(*(send_some() for _ in range(CLIENTS)))
    return report, results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    report, results = asyncio.run(
        attack(options.url, options.model, options.requests, options.seed)
    )
    print(f"hostile requests in {time.monotonic() - started:.0f} s: {dict(report.statuses)}")
    print(f"good requests: {dict(results)}; {report.failed} failures")
    errors = [status for status in report.statuses if not status.isdigit() or int(status) >= 500]
    return 1 if errors or report.failed or set(results) != {"equal"} else 0


if __name__ == "__main__":
    sys.exit(main())
