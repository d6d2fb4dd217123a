"""OpenAI's client with two real servers: chats, streams, and classes of errors."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.serving.conftest import Pool
from tests.serving.launch import KEY, LOCKED, PLAIN, Server
from tests.serving.media import COMBOS, IMAGE

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]

TEXT = {"type": "text", "text": "Describe the scene in detail."}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def messages(*parts: Any) -> Any:
    return [{"role": "user", "content": [*parts, TEXT]}]


@pytest.mark.parametrize("combo", COMBOS)
def test_a_streamed_answer_is_the_whole_answer(client: openai.OpenAI, combo: str) -> None:
    whole = client.chat.completions.create(
        model="any", messages=messages(*COMBOS[combo]), temperature=0, max_tokens=12
    )
    stream = client.chat.completions.create(
        model="any",
        messages=messages(*COMBOS[combo]),
        temperature=0,
        max_tokens=12,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage
    assert whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12


def test_weights_matter(client: openai.OpenAI) -> None:
    def answer(image: float, audio: float) -> str | None:
        image_part, audio_part = (
            {**part, "weight": weight}
            for part, weight in zip(COMBOS["image_audio"], (image, audio), strict=True)
        )
        completion = client.chat.completions.create(
            model="any", messages=messages(image_part, audio_part), temperature=0, max_tokens=12
        )
        return completion.choices[0].message.content

    assert answer(1, 0) != answer(0, 1)
    assert answer(2, 6) == answer(0.25, 0.75)


def test_the_model_list_states_the_provenance(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    provenance = model.model_dump()["imagebind"]["provenance"]
    assert provenance["stage"] == "finetune"
    assert {source["role"] for source in provenance["sources"]} >= {"llama", "adapter", "imagebind"}
    assert all(len(s["sha256"]) == 64 and s["licence"] for s in provenance["sources"])


def test_errors_are_typed(client: openai.OpenAI, servers: Pool) -> None:
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="any", messages=messages(IMAGE, broken))
    assert bad.value.param == "messages[0].content[1]"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="no-such-model", messages=messages())
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")
    with (
        openai.OpenAI(base_url=f"{servers.get(LOCKED).url}/v1", api_key="wrong") as unauthorized,
        pytest.raises(openai.AuthenticationError),
    ):
        unauthorized.models.list()


def test_errors_have_one_form_on_every_route(client: openai.OpenAI) -> None:
    """All routes of bindserve respond with OpenAI's error object. Some routes of vLLM do not."""
    other = {"model": "no-such-model", "max_tokens": 1}
    user_messages = [{"role": "user", "content": "Hello"}]
    for path, document in {
        "/v1/chat/completions": {"messages": user_messages},
        "/v1/completions": {"prompt": "Hello"},
        "/v1/responses": {"input": "Hello"},
        "/v1/messages": {"messages": user_messages},
        "/v1/messages/count_tokens": {"messages": user_messages},
        "/tokenize": {"prompt": "Hello"},
        "/detokenize": {"tokens": [1]},
    }.items():
        url = str(client.base_url.copy_with(path=path))
        response = httpx.post(url, json=other | document)
        assert response.status_code == 404, (path, response.text)
        error = response.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}, path
        assert "no-such-model" in error["message"]
        assert error["type"] == "not_found_error"


def test_two_servers_run_side_by_side(client: openai.OpenAI, servers: Pool) -> None:
    with openai.OpenAI(base_url=f"{servers.get(LOCKED).url}/v1", api_key=KEY) as other:
        components = [
            model.model_dump()["imagebind"]["provenance"]["stage"]
            for each in (client, other)
            for model in each.models.list().data
        ]
        assert components == ["finetune", "pretrain"]
        answer = other.chat.completions.create(
            model="any", messages=messages(IMAGE), temperature=0, max_tokens=4
        )
        assert answer.usage
        assert answer.usage.completion_tokens == 4


def test_the_metrics_have_a_histogram_per_stage(client: openai.OpenAI, server: Server) -> None:
    client.chat.completions.create(
        model="any", messages=messages(*COMBOS["image_audio"]), max_tokens=2
    )
    text = httpx.get(f"{server.url}/metrics").text
    for stage in ("decode", "encode"):
        for modality in ("image", "audio"):
            labels = f'{{modality="{modality}",stage="{stage}"}}'
            assert f"bindserve_stage_seconds_count{labels}" in text
    assert 'bindserve_stage_seconds_count{modality="",stage="retrieve"}' in text
    assert "vllm:request_success_total" in text
