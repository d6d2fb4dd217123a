"""Add grounding to the answers of chat completions: to their JSON, or to their events."""

import json
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from server.api.body import Json
from server.api.grounding.ground import Grounding

DATA = "data: {"
ERROR_EVENT = 'data: {"error"'


async def ground_chat(document: Json, grounding: Grounding) -> str:
    """Set `message.grounding` of every choice, in place. Returns the value of GROUND_HEADER."""
    messages = [choice["message"] for choice in document["choices"]]
    results = await grounding.of_texts([message.get("content") or "" for message in messages])
    for message, result in zip(messages, results, strict=True):
        message["grounding"] = result
    return state_of_results(results)


def state_of_results(results: list[list[Json] | None]) -> str:
    """The value of GROUND_HEADER."""
    return "unavailable" if None in results else "on"


async def ground_chunks(
    events: AsyncGenerator[str], grounding: Grounding, *, explain: bool
) -> AsyncGenerator[str]:
    """Yield the events. After the last chunk with text, yield a chunk with `delta.grounding` of
    every choice. `explain`: whether this chunk also has the object `imagebind`, which explains the
    grounding.

    Closing this generator closes `events`.
    """
    texts: dict[int, str] = defaultdict(str)
    last: Json = {}
    waits = True  # whether the text has not ended
    async with aclosing(events):
        async for event in events:
            if waits and event.startswith(ERROR_EVENT):
                waits = False
            elif waits and (chunk := with_choices(event)):
                last = chunk
                for choice in chunk["choices"]:
                    texts[choice["index"]] += choice["delta"].get("content") or ""
            elif waits and last:  # the event is the chunk with the usage, or the end of the stream
                waits = False
                yield await grounding_chunk(texts, last, grounding, explain=explain)
            yield event


def with_choices(event: str) -> Json | None:
    """Return the chunk in an event, or None if the event has no choices."""
    chunk: Json = json.loads(event[6:]) if event.startswith(DATA) else {}
    return chunk if chunk.get("choices") else None


async def grounding_chunk(
    texts: dict[int, str], last: Json, grounding: Grounding, *, explain: bool
) -> str:
    """Return the event with the grounding. `last`: the previous chunk, which has the same id."""
    indices = sorted(texts)
    results = await grounding.of_texts([texts[index] for index in indices])
    choices = [
        {"index": index, "delta": {"grounding": result}, "logprobs": None, "finish_reason": None}
        for index, result in zip(indices, results, strict=True)
    ]
    chunk: Json = {key: last[key] for key in ("id", "object", "created", "model") if key in last}
    chunk["choices"] = choices
    if explain:
        chunk["imagebind"] = {"grounding": grounding.explanation()}
    return f"data: {json.dumps(chunk)}\n\n"
