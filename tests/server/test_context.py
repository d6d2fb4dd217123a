"""The engine receives the embedding of the request, and never an embedding that a client wrote."""

import asyncio
from typing import Any

import numpy as np
import pytest

from model_ext.conditioning import EXTRA_ARG, cache_salt, pack
from server.api.middleware.context import ContextMiddleware
from server.context import NoConditioning, current, engine_inputs

TEXT_ONLY = pack(np.array([1, 0, 0], np.float32))
OTHER = np.array([0, 1, 0], np.float32)
PROMPT = {"type": "token", "prompt_token_ids": [1, 2]}


async def inside(function: Any) -> Any:
    """Run `function` with a request's context, as the application runs a route."""
    result = []

    async def app(*_: object) -> None:
        result.append(await function())

    await ContextMiddleware(app, TEXT_ONLY)({"type": "http"}, None, None)  # type: ignore[arg-type]
    return result[0]


async def conditioned(extra_args: dict[str, Any] | None = None, **prompt: Any) -> Any:
    return engine_inputs({**PROMPT, **prompt}, extra_args, 3)


async def test_without_a_request_nothing_is_generated() -> None:
    with pytest.raises(NoConditioning, match="no request context"):
        engine_inputs(PROMPT, None, 3)


async def test_the_default_is_text_only() -> None:
    prompt, extra_args = await inside(conditioned)
    assert extra_args == {EXTRA_ARG: TEXT_ONLY}
    assert prompt == {**PROMPT, "cache_salt": cache_salt(TEXT_ONLY, "", "")}


@pytest.mark.parametrize("written", ["x", b"x", 3, [1.0], pack(OTHER), None])
async def test_a_client_cannot_write_the_embedding(written: Any) -> None:
    _, extra_args = await inside(lambda: conditioned({EXTRA_ARG: written, "other": 1}))
    assert extra_args == {EXTRA_ARG: TEXT_ONLY, "other": 1}


async def test_a_route_replaces_the_embedding_for_all_tasks_of_its_request() -> None:
    """If one task of a request sets the embedding, all tasks of the request use this embedding.

    vLLM generates in child tasks for streams, beam search and `with_cancellation`.
    """

    async def route() -> Any:
        current().condition_on(OTHER)

    async def request() -> Any:
        # One child task sets the embedding. Then another child task reads the embedding.
        await asyncio.create_task(route())
        return await asyncio.create_task(conditioned())

    _, extra_args = await inside(request)
    assert extra_args[EXTRA_ARG] == pack(OTHER)
    _, extra_args = await inside(conditioned)
    assert extra_args[EXTRA_ARG] == TEXT_ONLY


async def test_concurrent_requests_keep_their_embeddings() -> None:
    async def request(number: int) -> bytes:
        async def route() -> bytes:
            current().condition_on(np.full(3, number, np.float32))
            await asyncio.sleep(0.001 * (number % 3))
            return (await conditioned())[1][EXTRA_ARG]

        return await inside(route)

    numbers = range(1, 20)
    embeddings = await asyncio.gather(*(asyncio.create_task(request(n)) for n in numbers))
    assert embeddings == [pack(np.full(3, n, np.float32)) for n in numbers]


async def test_the_salt_depends_on_embedding_client_and_key() -> None:
    async def salted(embedding: np.ndarray | None, key: str, client: str | None) -> str:
        async def route() -> str:
            if embedding is not None:
                current().condition_on(embedding)
            current().key_salt = key
            prompt, _ = await conditioned(cache_salt=client)
            return prompt["cache_salt"]

        return await inside(route)

    salts = [
        await salted(*arguments)
        for arguments in [
            (None, "", None),
            (OTHER, "", None),
            (None, "key", None),
            (None, "", "key"),
            (None, "ke", "y"),
        ]
    ]
    assert len(set(salts)) == len(salts)
    assert await salted(None, "", None) == salts[0]


async def test_what_came_in_is_not_changed() -> None:
    """The caller's prompt must stay unchanged, because beam search builds its next prompts from
    it.
    """
    extra_args: dict[str, Any] = {"other": 1}
    first, _ = await inside(lambda: conditioned(extra_args))
    again, _ = await inside(lambda: conditioned(extra_args))
    assert first == again
    assert extra_args == {"other": 1}


@pytest.mark.parametrize("bad", [[np.nan, 0, 0], [np.inf, 0, 0], [[1, 0, 0]]])
async def test_a_bad_embedding_does_not_get_in(bad: list[float]) -> None:
    async def route() -> None:
        with pytest.raises(ValueError, match="embedding"):
            current().condition_on(np.array(bad, np.float32))

    await inside(route)


async def test_an_embedding_of_another_model_is_refused() -> None:
    async def route() -> None:
        current().condition_on(np.ones(4, np.float32))
        message = "the embedding has 4 numbers; the model expects 3"
        with pytest.raises(NoConditioning, match=message):
            await conditioned()

    await inside(route)


async def test_other_scopes_have_no_conditioning() -> None:
    async def app(*_: object) -> None:
        with pytest.raises(NoConditioning):
            current()

    await ContextMiddleware(app, TEXT_ONLY)({"type": "websocket"}, None, None)  # type: ignore[arg-type]
