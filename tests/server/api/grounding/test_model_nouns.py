"""Grounding with nouns that the language model lists in a second request."""

import json
from pathlib import Path
from typing import Any

import pytest

from server.api.grounding.model_nouns import LIST
from server.api.middleware.rate_limit import new_usage
from server.context import current
from tests.server.api.grounding.colors import part, picture
from tests.server.api.grounding.grounded import RED, TEXT, answer, chat, enable
from tests.server.application import Served

pytest.importorskip("spacy")
pytestmark = pytest.mark.asyncio(loop_scope="package")


class TwoAnswers:
    """A chat handler that gets two requests: first the client's, then the one for the answer's
    nouns.
    """

    def __init__(self, nouns: str) -> None:
        self.answers: list[Any] = [answer(TEXT), answer(nouns)]
        self.seen: list[Any] = []
        self.embeddings: list[bytes] = []

    async def create_chat_completion(self, request: Any, raw_request: Any) -> Any:
        assert (raw_request is None) == bool(self.seen)
        self.seen.append(request)
        self.embeddings.append(current().embedding)
        result = self.answers[len(self.seen) - 1]
        if isinstance(result, Exception):
            raise result
        return result


async def test_the_model_itself_can_list_the_nouns(served: Served) -> None:
    """The second request has a grammar and no attachment."""
    nouns = json.dumps({"nouns": ["Red Car", "unicorn", "blue house", "red car"]})
    handler = served.app.state.openai_serving_chat = TwoAnswers(nouns)
    red = part(picture(("red", RED)))
    response = await chat(served, red, ground={"nouns": "model"})
    grounding = response.json()["choices"][0]["message"]["grounding"]
    assert [(each["noun"], each["found"]) for each in grounding] == [
        ("red car", True),
        ("blue house", False),
    ]
    assert [TEXT[slice(*each["span"])] for each in grounding] == ["red car", "blue house"]
    first, second = handler.seen
    assert second.structured_outputs.regex == LIST
    assert TEXT in second.messages[0]["content"]
    assert handler.embeddings[1] == served.components.text_only != handler.embeddings[0]
    assert first.structured_outputs is None


@pytest.mark.parametrize("nouns", ["", "{", "[]", '{"nouns": "dog"}', '{"nouns": [3]}'])
async def test_a_list_that_is_cut_off_loses_no_answer(served: Served, nouns: str) -> None:
    served.app.state.openai_serving_chat = TwoAnswers(nouns)
    red = part(picture(("red", RED)))
    response = await chat(served, red, ground={"nouns": "model"})
    message = response.json()["choices"][0]["message"]
    assert (message["content"], message["grounding"]) == (TEXT, None)


async def test_an_error_of_the_second_request_loses_no_answer(served: Served) -> None:
    """vLLM raises an error of its own, for example for a prompt that is too long."""
    handler = served.app.state.openai_serving_chat = TwoAnswers("")
    handler.answers[1] = ValueError("too long")
    response = await chat(served, part(picture(("red", RED))), ground={"nouns": "model"})
    assert response.status_code == 200, response.text
    message = response.json()["choices"][0]["message"]
    assert (message["content"], message["grounding"]) == (TEXT, None)


async def test_the_second_request_needs_a_place_of_the_client(
    served: Served, detector_folder: Path
) -> None:
    enable(served, detector_folder, key_requests_per_minute=1)
    served.app.state.key_usage = usage = new_usage(1)
    assert usage[""].wait_s(1) == 0  # as if the middleware had counted the first request
    handler = served.app.state.openai_serving_chat = TwoAnswers('{"nouns": []}')
    response = await chat(served, part(picture()), ground={"nouns": "model"})
    assert response.json()["choices"][0]["message"]["grounding"] is None
    assert len(handler.seen) == 1
