"""Anthropic's client with a server that requires a key. The client sends the key in the header
Authorization, and earlier versions of the client in `X-Api-Key`.
"""

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.serving.launch import KEY, LOCKED, Server
from tests.serving.media import IMAGE, encoded

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [LOCKED], ids=str)]

TEXT: Any = {"type": "text", "text": "Describe the scene in detail."}
PICTURE: Any = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/jpeg", "data": encoded("img_a.jpg")},
}


KEYS: dict[str, Any] = {
    "authorization": {"api_key": KEY},
    "x-api-key": {"default_headers": {"X-Api-Key": KEY}},
}


@pytest.fixture(params=KEYS)
def client(
    server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[anthropic.Anthropic]:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    options = KEYS[request.param]
    with anthropic.Anthropic(base_url=server.url, max_retries=0, **options) as client:
        assert ("Authorization" in client.auth_headers) == (request.param == "authorization")
        yield client


def test_answers_and_streams_are_those_of_a_chat(
    client: anthropic.Anthropic, server: Server
) -> None:
    request: Any = {"model": "any", "max_tokens": 12, "extra_body": {"temperature": 0}}
    request["messages"] = [{"role": "user", "content": [PICTURE, TEXT]}]
    message = client.messages.create(**request)
    (block,) = message.content
    assert block.type == "text"
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 12
    with client.messages.stream(**request) as stream:
        assert "".join(stream.text_stream) == block.text
    messages = [{"role": "user", "content": [IMAGE, TEXT]}]
    answer: Any = server.chat(messages=messages, max_tokens=12, temperature=0)
    assert answer["choices"][0]["message"]["content"] == block.text


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Describe the scene in detail."}]
    count = client.messages.count_tokens(model="any", messages=messages).input_tokens
    usage = client.messages.create(model="any", max_tokens=1, messages=messages).usage
    # Anthropic's usage counts tokens of the prefix cache separately.
    cached = (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    assert count == usage.input_tokens + cached


def test_errors_are_typed(client: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": "Hello"}]
    wrong = {"Authorization": "Bearer wrong", "X-Api-Key": "wrong"}
    with pytest.raises(anthropic.AuthenticationError):
        client.messages.create(model="any", max_tokens=1, messages=messages, extra_headers=wrong)
    with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
        client.messages.create(model="no-such-model", max_tokens=1, messages=messages)
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        client.messages.create(
            model="any", max_tokens=1, messages=messages, extra_body={"temperature": -1}
        )
