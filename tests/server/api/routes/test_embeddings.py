"""/v1/embeddings, with fake encoders that map an angle in degrees to a two-dimensional vector."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import openai
import pytest

from model_ext.conditioning import Vector
from server.api.components import Components
from server.conditioning.mix import normalize
from server.conditioning.options import ImageBindOptions
from tests.server.api.test_app import check_error, image
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
        # The parameter's type is of httpx2, but the library also accepts clients of httpx.
        http_client=served.client,  # type: ignore[arg-type]
    )
    for form in ("float", "base64", None):  # For None, OpenAI's client uses base64.
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
