"""/v1/embeddings, with fake encoders that map an angle in degrees to a two-dimensional vector."""

import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest
import soundfile

from model_ext.conditioning import Vector
from server.api.components import Components
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions
from server.settings import Settings
from tests.server.api.exchanges import check_error, image
from tests.server.application import Served, serve
from tests.server.conditioning.test_conditioner import EMBEDDINGS, attachment

PATH = "/v1/embeddings"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve(max_embedding_inputs=20)
    async with served.client:
        yield served


def direction(degrees: float) -> Vector:
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


async def embeddings(served: Served, value: Any, **more: Any) -> Any:
    response = await served.client.post(PATH, json={"input": value, **more})
    assert response.status_code == 200, response.text
    return np.array([item["embedding"] for item in response.json()["data"]])


def close(embeddings: Any, *degrees: float) -> None:
    np.testing.assert_allclose(embeddings, [direction(each) for each in degrees], atol=1e-6)


async def test_openais_client_in_both_formats(served: Served) -> None:
    client = openai.AsyncOpenAI(
        base_url="http://test/v1",
        api_key="-",
        # The parameter's type is httpx2's client, but the library also accepts clients of httpx.
        http_client=served.client,  # type: ignore[arg-type]
    )
    # Without encoding_format, OpenAI's client requests base64.
    for form in ("float", "base64", None):
        chosen: Any = {"encoding_format": form} if form else {}
        answer = await client.embeddings.create(model="tiny", input=["10", "20"], **chosen)
        vectors = [item.embedding for item in answer.data]
        if form == "base64":
            vectors = [np.frombuffer(base64.b64decode(each), "<f4") for each in vectors]  # type: ignore[misc,arg-type]
        close(vectors, 10, 20)
        assert [item.index for item in answer.data] == [0, 1]
        assert answer.model == "tiny"


async def test_what_an_input_may_be(served: Served) -> None:
    close(await embeddings(served, "10"), 10)
    close(await embeddings(served, image(20)), 20)
    close(await embeddings(served, {"type": "text", "text": "30"}), 30)
    close(await embeddings(served, ["10", image(20), [image(0), image(90)]]), 10, 20, 45)
    close(await embeddings(served, [[image(0, weight=1), "90"]]), 45)
    vector = {"type": "imagebind_embedding", "imagebind_embedding": {"data": [0, 5]}}
    close(await embeddings(served, vector), 90)


async def test_equal_inputs_are_encoded_once(served: Served) -> None:
    await embeddings(served, ["7"] * 20)
    assert served.components.components.decoded == [b"7"]


async def test_the_mix_is_explained(served: Served) -> None:
    body = {"input": [[image(0), image(90, weight=3)]], "imagebind": {"explain": True}}
    response = await served.client.post(PATH, json=body)
    assert response.headers["x-bindserve-cache"] == "off"
    explanation = response.json()["data"][0]["imagebind"]
    assert [part["share"] for part in explanation["mix"]] == [0.25, 0.75]
    assert [part["param"] for part in explanation["mix"]] == ["input[0][0]", "input[0][1]"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": ["1"] * 21}, 400, "input"),
        ({"input": [1, 2]}, 400, "input[0]"),
        ({"input": ["1", []]}, 400, "input[1]"),
        ({"input": ["1", [[1]]]}, 400, "input[1]"),
        ({"input": ["1", "x"]}, 400, "input[1]"),
        ({"input": ["1", ["2", "x"]]}, 400, "input[1][1]"),
        ({"input": "x"}, 400, "input"),
        ({"input": [["1"] * 5]}, 400, "input[0][4]"),
        ({"input": ["1", {"type": "smell"}]}, 400, "input[1]"),
        ({"input": "1", "model": "other"}, 404, "model"),
        ({"input": "1", "model": 3}, 400, "model"),
        ({"input": "1", "dimensions": 3}, 400, "dimensions"),
        ({"input": "1", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"input": "1", "imagebind": {"cache": True}}, 400, "imagebind.cache"),
    ],
)
async def test_a_bad_request_names_the_item(
    served: Served, body: Any, status: int, param: str
) -> None:
    check_error(await served.client.post(PATH, json=body), status, param=param)


async def test_no_new_work_while_the_server_drains(served: Served) -> None:
    served.engine.draining = True
    response = await served.client.post(PATH, json={"input": "1"})
    check_error(response, 503, code="draining")


async def test_real_encoders_give_the_golden_embeddings(components: Components) -> None:
    """Embeddings have length 1 and equal those of `bindserve embed`. The server uses the retrieval
    cache only if the request sets `cache`.
    """
    served = serve()
    served.app.state.components = components
    data = base64.b64encode(attachment("img_a.jpg", 1).source.head(1 << 20)).decode()  # type: ignore[union-attr]
    part = {"type": "image_url", "image_url": {"url": f"data:;base64,{data}"}}
    (plain,) = await embeddings(served, part)
    (pulled,) = await embeddings(served, part, imagebind={"cache": True})
    expected = await components.conditioner.condition(
        [attachment("img_a.jpg", 1)], ImageBindOptions()
    )
    np.testing.assert_allclose(plain, normalize(EMBEDDINGS["img_a.jpg/post"][0]), atol=1e-6)
    np.testing.assert_allclose(pulled, expected.embedding, atol=1e-6)
    assert np.abs(plain - pulled).max() > 1e-3


@pytest.mark.parametrize("fields", [{}, {"channels": "mean"}], ids=["", "channels"])
async def test_a_window_equals_the_file_cut_there(
    components: Components, settings: Settings, fields: dict[str, Any]
) -> None:
    """The sound file has 16 kHz. It is not resampled, so a window has the same samples as the whole
    file.
    """
    served = serve()
    served.app.state.components, served.app.state.settings = components, settings
    rate, times = 16_000, np.arange(5 * 16_000) / 16_000
    left = 8000 * np.sin(2000 * times * (1 + 0.2 * times)) * times / 5
    samples = np.stack([left, 8000 * np.sin(5000 * times)], 1).astype(np.int16)

    def part(first: int, stop: int) -> dict[str, Any]:
        file = io.BytesIO()
        soundfile.write(file, samples[first:stop], rate, format="WAV")
        data = base64.b64encode(file.getvalue()).decode()
        return {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}, **fields}

    windows = {"seconds": 2, "stride": 1.5}
    body = {"input": [part(0, len(samples)), part(0, 8000)], "imagebind": {"windows": windows}}
    response = await served.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    bounds = [(item["imagebind"]["start"], item["imagebind"]["end"]) for item in data]
    assert bounds == [(0, 2), (1.5, 3.5), (3, 5), (4.5, 5), (0, 0.5)]
    assert [item["imagebind"]["input"] for item in data] == [0, 0, 0, 0, 1]
    assert [item["index"] for item in data] == list(range(5))
    cuts = [part(int(start * rate), int(end * rate)) for start, end in bounds]
    expected = await embeddings(served, cuts)
    np.testing.assert_allclose([item["embedding"] for item in data], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"windows": {"seconds": 2}}, "input"),
        ({"windows": {"seconds": 0}}, "imagebind.windows.seconds"),
        ({"windows": {"seconds": 2}, "cache": True}, "imagebind.cache"),
    ],
    ids=str,
)
async def test_windows_that_are_not_possible(
    served: Served, options: dict[str, Any], param: str
) -> None:
    response = await served.client.post(PATH, json={"input": "1", "imagebind": options})
    check_error(response, 400, param=param)


async def test_a_chat_has_no_windows(served: Served) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    body = {"messages": messages, "imagebind": {"windows": {"seconds": 2}}}
    response = await served.client.post("/v1/chat/completions", json=body)
    check_error(response, 400, param="imagebind.windows")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "user", "content": [image(0), {"type": "text", "text": "90"}]}]},
        {"input": [{"content": [image(0), {"type": "text", "text": "90"}]}]},
        {"input": [[{"image": base64.b64encode(b"0").decode()}, {"text": "90"}]]},
        {"input": [[{"image": "data:;base64,MA=="}, "90"]]},
    ],
    ids=["vLLM", "content", "Jina", "list"],
)
async def test_forms_of_other_servers_give_equal_vectors(
    served: Served, body: dict[str, Any]
) -> None:
    response = await served.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    close([item["embedding"] for item in response.json()["data"]], 45)


async def test_infinitys_form_states_the_modality_of_strings(served: Served) -> None:
    close(await embeddings(served, ["data:;base64,OTA=", "MA=="], modality="image"), 90, 0)
    response = await served.client.post(PATH, json={"input": "1", "modality": "smell"})
    check_error(response, 400, param="modality")


async def test_token_ids_are_refused_with_a_hint(served: Served) -> None:
    response = await served.client.post(PATH, json={"input": [[1, 2], [3]]})
    assert "check_embedding_ctx_length=False" in check_error(response, 400, param="input[0]")
