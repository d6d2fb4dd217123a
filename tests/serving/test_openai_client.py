"""The official OpenAI client chats, streams and sees typed errors; two servers run side by side."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.serving.launch import Server, serve
from tests.serving.media import COMBOS, IMAGE

pytestmark = pytest.mark.engine

TEXT = {"type": "text", "text": "Describe the scene in detail."}


@pytest.fixture(scope="module")
def servers(tiny_models: dict[str, Path], tmp_path_factory: Any) -> Iterator[tuple[Server, Server]]:
    folder = tmp_path_factory.mktemp("client")
    (folder / "keys").write_text("sk-right\n")
    with (
        serve(tiny_models["finetune"], folder / "a", f"--cache={tiny_models['knn.index']}") as a,
        serve(tiny_models["pretrain"], folder / "b", f"--api-key-file={folder / 'keys'}") as b,
    ):
        yield a, b


@pytest.fixture(scope="module")
def client(servers: tuple[Server, Server]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{servers[0].url}/v1", api_key="-", max_retries=0) as client:
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


def test_the_model_list_says_where_the_weights_came_from(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    provenance = model.model_dump()["provenance"]
    assert provenance["stage"] == "finetune"
    assert {source["role"] for source in provenance["sources"]} >= {"llama", "adapter", "imagebind"}
    assert all(len(s["sha256"]) == 64 and s["licence"] for s in provenance["sources"])


def test_errors_are_typed(client: openai.OpenAI, servers: tuple[Server, Server]) -> None:
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="any", messages=messages(IMAGE, broken))
    assert bad.value.param == "messages[0].content[1]"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="none of that name", messages=messages())
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none of that name")
    with (
        openai.OpenAI(base_url=f"{servers[1].url}/v1", api_key="sk-wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_two_servers_run_side_by_side(servers: tuple[Server, Server]) -> None:
    with openai.OpenAI(base_url=f"{servers[1].url}/v1", api_key="sk-right") as client:
        (model,) = client.models.list().data
        assert model.model_dump()["provenance"]["stage"] == "pretrain"
        answer = client.chat.completions.create(
            model="any", messages=messages(IMAGE), temperature=0, max_tokens=4
        )
        assert answer.usage
        assert answer.usage.completion_tokens == 4


def test_the_metrics_have_a_histogram_a_stage(
    client: openai.OpenAI, servers: tuple[Server, Server]
) -> None:
    client.chat.completions.create(
        model="any", messages=messages(*COMBOS["image_audio"]), max_tokens=2
    )
    text = httpx.get(f"{servers[0].url}/metrics").text
    for stage in ("decode", "encode", "retrieve"):
        assert f"bindserve_{stage}_seconds_count" in text
    assert "vllm:request_success_total" in text
