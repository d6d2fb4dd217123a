"""/v1/images/generations: conditions, options, limits and errors."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_ext.side import TaskError
from server.api.pictures.drawing import MAX_TEXT_BYTES
from tests.server.api.exchanges import check_error, image
from tests.server.api.pictures.conftest import Recorder
from tests.server.application import Served, serve

PATH = "/v1/images/generations"


def pictures(document: dict[str, Any]) -> list[Any]:
    data = [base64.b64decode(each["b64_json"]) for each in document["data"]]
    return [np.asarray(Image.open(io.BytesIO(each))) for each in data]


async def test_a_prompt_alone_conditions_the_picture(drawing: Served, recorder: Recorder) -> None:
    body = {"model": "tiny", "prompt": "90", "n": 2, "size": "64x48", "response_format": "b64_json"}
    response = await drawing.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    assert response.json()["created"] > 1_700_000_000
    assert [picture.shape for picture in pictures(response.json())] == [(48, 64, 3)] * 2
    assert recorder.conditions == [[0, 3]] * 2  # the encoder's output, which is not normalised
    assert {document["prompt"] for document in recorder.documents} == {"90"}
    seeds = [document["seed"] for document in recorder.documents]
    assert max(seeds) - min(seeds) == 1
    assert response.headers["x-bindserve-cache"] == "off"


async def test_attachments_are_mixed_and_a_seed_repeats_the_picture(
    drawing: Served, recorder: Recorder
) -> None:
    ready = {"type": "imagebind_embedding", "imagebind_embedding": {"data": [0, 2]}}
    body = {
        "prompt": "a cat",
        "input": [image(0), {**ready, "norm": 6, "weight": 2}, {**ready, "weight": 1}],
        "imagebind": {"explain": True, "cache": False},
        **{"seed": 7, "steps": 2, "guidance": 1.5, "noise_level": 0, "size": "32x32"},
    }
    first, second = [await drawing.client.post(PATH, json=body) for _ in range(2)]
    assert first.status_code == 200, first.text
    # (1 * (3, 0) + 2 * (0, 6) + 1 * (0, 5)) / 4; an embedding without `norm` gets length 5.
    assert recorder.conditions == [[0.75, 4.25]] * 2
    assert first.json()["data"] == second.json()["data"]
    assert [part["share"] for part in first.json()["imagebind"]["mix"]] == [0.25, 0.5, 0.25]
    other = await drawing.client.post(PATH, json={**body, "seed": 8})
    assert other.json()["data"] != first.json()["data"]
    document = recorder.documents[0]
    assert (document["steps"], document["guidance"], document["seed"]) == (2, 1.5, 7)


async def test_a_long_prompt_is_cut_to_whole_characters(
    drawing: Served, recorder: Recorder
) -> None:
    body = {"prompt": "a" + "é" * MAX_TEXT_BYTES, "input": [image(0)]}
    response = await drawing.client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    (document,) = recorder.documents
    assert document["prompt"] == "a" + "é" * (MAX_TEXT_BYTES // 2 - 1)


async def test_without_a_decoder_the_error_names_the_flag() -> None:
    served = serve()
    async with served.client:
        response = await served.client.post(PATH, json={"prompt": "90"})
    assert "--decoder" in check_error(response, 400, code="no_decoder")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"size": "65x64"}, "size"),
        ({"size": "64x15"}, "size"),
        ({"size": "99999999x1"}, "size"),
        ({"size": "large"}, "size"),
        ({"steps": 101}, "steps"),
        ({"steps": 0}, "steps"),
        ({"guidance": 0.5}, "guidance"),
        ({"guidance": 1e9}, "guidance"),
        ({"noise_level": 1000}, "noise_level"),
        ({"seed": 2**63 - 1}, "seed"),
        ({"seed": -1}, "seed"),
        ({"response_format": "url"}, "response_format"),
        ({"output_format": "webp"}, "output_format"),
        ({"stream": True}, "stream"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [image(0, norm=2)]}, "input[0].norm"),
        ({"imagebind": {"picture": {}}}, "imagebind.picture"),
        ({"input": [image(0), image(0, weight=-1)]}, "weight"),
    ],
)
async def test_bad_fields_are_named(drawing: Served, fields: dict[str, Any], param: str) -> None:
    response = await drawing.client.post(PATH, json={"prompt": "90", **fields})
    check_error(response, 400, param=param)


async def test_an_unknown_model_is_404(drawing: Served) -> None:
    response = await drawing.client.post(PATH, json={"prompt": "90", "model": "dall-e-3"})
    check_error(response, 404, param="model", code="model_not_found")


async def test_errors_of_the_decoder_reach_the_client(drawing: Served, recorder: Recorder) -> None:
    response = await drawing.client.post(PATH, json={"prompt": "90", "noise_level": 3})
    assert "noise_level must be 0" in check_error(response, 400)
    recorder.error = TaskError("no such style")
    response = await drawing.client.post(PATH, json={"prompt": "90"})
    assert check_error(response, 400) == "no such style"
    recorder.error = ValueError("secret")
    response = await drawing.client.post(PATH, json={"prompt": "90"})
    assert "secret" not in check_error(response, 500)
