"""The routes for Weaviate, with fake encoders, and with real encoders whose vectors must equal
recorded vectors.
"""

import base64
import io
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from model_ext.imagebind.model import ImageBind
from server.api.components import Components
from server.api.embedding.weaviate import create_weaviate_app, error_text
from server.api.routes.vectorize import FIELDS
from server.settings import Settings
from tests.model_ext.imagebind.formulas import formula_input
from tests.server.application import Served, serve
from tests.server.conditioning.test_conditioner import EMBEDDINGS
from tests.server.media_files import media


def client_of(served: Served) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_weaviate_app(served.app), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://weaviate")


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_vectors_have_their_scale_and_order() -> None:
    client = client_of(serve())
    body = {"texts": ["0", "90"], "images": [encode(b"180")], "audio": None}
    response = await client.post("/vectorize", json=body)
    assert response.status_code == 200, response.text
    assert response.json().keys() == {field for _, field in FIELDS.values()}
    np.testing.assert_allclose(response.json()["textVectors"], [[2, 0], [0, 2]], atol=1e-6)
    np.testing.assert_allclose(response.json()["imageVectors"], [[-2, 0]], atol=1e-6)
    assert response.json()["imuVectors"] == []


async def test_an_input_that_another_route_has_embedded_is_not_decoded_again() -> None:
    """Regression: an option for IMU tables was set for all inputs, so that /vectorize and
    /v1/embeddings did not share results in the result cache.
    """
    served = serve()
    response = await served.client.post("/v1/embeddings", json={"model": "tiny", "input": ["90"]})
    assert response.status_code == 200, response.text
    response = await client_of(served).post("/vectorize", json={"texts": ["90"]})
    assert response.status_code == 200, response.text
    assert served.components.components.decoded == [b"90"]


@pytest.mark.parametrize("path", ["/.well-known/ready", "/.well-known/live"])
async def test_readiness_needs_no_key(path: str) -> None:
    client = client_of(serve("secret"))
    for method in ("GET", "HEAD"):
        response = await client.request(method, path)
        assert (response.status_code, response.content) == (204, b"")
    assert (await client.get("/meta")).json()["name"] == "tiny"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b'{"texts": "0"}', 400, "texts must be a list"),
        (b'{"images": ["?"]}', 400, "images[0]: the data is not base64"),
        (b'{"images": ["MQ==", "eA=="]}', 400, "images[1]: not a number"),
        (b"[", 400, "not JSON"),
        (b'{"texts": ["0", "1", "2"]}', 400, "more than 2"),
        (b'{"texts": ["' + b"1" * 3000 + b'"]}', 413, "larger than 2000 bytes"),
    ],
    ids=["type", "base64", "file", "JSON", "count", "size"],
)
async def test_an_error_is_one_text_that_names_the_input(
    body: bytes, status: int, text: str
) -> None:
    served = serve(max_vectorize_inputs=2, max_upload_bytes=2000)
    headers = {"content-type": "application/json"}
    response = await client_of(served).post("/vectorize", content=body, headers=headers)
    assert response.status_code == status
    assert response.json().keys() == {"error"}
    assert text in response.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/embeddings", 404), ("/vectorize", 405), ("/ready", 404)]
)
async def test_it_has_no_other_paths(path: str, status: int) -> None:
    response = await client_of(serve()).get(path)
    assert response.status_code == status
    assert isinstance(response.json()["error"], str)


async def test_limits_are_sent_as_text() -> None:
    client = client_of(serve(key_requests_per_minute=1))
    statuses = []
    for _ in range(2):
        response = await client.post("/vectorize", json={"texts": ["0"]})
        statuses.append(response.status_code)
    assert statuses == [200, 429]
    assert isinstance(response.json()["error"], str)
    assert response.headers["retry-after"]


def picture_of(name: str) -> tuple[str, torch.Tensor]:
    """Return a one-channel picture file, and the encoder input (1, S, S) that it must give."""
    values = (formula_input(name)[0].numpy() * 100 + 100).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return encode(file.getvalue()), torch.from_numpy(values.astype(np.float32) / 255)[None]


async def test_all_kinds_equal_the_goldens(components: Components, settings: Settings) -> None:
    served = serve()
    served.app.state.components, served.app.state.settings = components, settings
    imu = formula_input("imu").numpy()
    lines = ["ax,ay,az,gx,gy,gz", *(",".join(map(repr, row)) for row in imu.T.tolist())]
    depth, thermal = picture_of("depth"), picture_of("thermal")
    body: dict[str, Any] = {
        "texts": ["A dog is running on the beach."],
        "images": [encode(media("img_a.jpg")), encode(media("img_b.png"))],
        "audio": [encode(media(name)) for name in ("audio_a.wav", "audio_b.wav", "audio_c.flac")],
        "video": [encode(media("video_a.mp4"))],
        "imu": [encode("\n".join(lines).encode())],
        "depth": [depth[0]],
        "thermal": [thermal[0]],
    }
    response = await client_of(served).post("/vectorize", json=body)
    assert response.status_code == 200, response.text
    model = ImageBind.from_folder(settings.model / "encoders")
    with torch.inference_mode():
        maps = [
            model.embed(name, each[1][None]).numpy()
            for name, each in (("depth", depth), ("thermal", thermal))
        ]
    names = ("text0", "img_a.jpg", "img_b.png", "audio_a.wav", "audio_b.wav", "audio_c.flac")
    goldens = {
        name: EMBEDDINGS[f"{name}/post"].reshape(1, -1) for name in (*names, "video_a.mp4", "imu")
    }
    expected = {
        "textVectors": goldens["text0"],
        "imageVectors": np.concatenate([goldens["img_a.jpg"], goldens["img_b.png"]]),
        "audioVectors": np.concatenate([goldens[name] for name in names[3:]]),
        "videoVectors": goldens["video_a.mp4"],
        "imuVectors": goldens["imu"],
        "depthVectors": maps[0],
        "thermalVectors": maps[1],
    }
    for field, vectors in expected.items():
        found = response.json()[field]
        np.testing.assert_allclose(found, vectors, rtol=0, atol=1e-4, err_msg=field)


async def test_the_listener_rejects_requests_when_the_server_shuts_down() -> None:
    served = serve()
    served.engine.draining = True
    response = await client_of(served).post("/vectorize", json={"texts": ["0"]})
    assert (response.status_code, response.json()) == (
        503,
        {"error": "the server is shutting down"},
    )


async def test_an_unexpected_error_has_weaviates_form() -> None:
    served = serve()
    client = client_of(served)
    served.components.conditioner = None  # type: ignore[assignment]
    response = await client.post("/vectorize", json={"texts": ["0"]})
    assert response.status_code == 500
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize("content", [b"", b"no JSON", b"[]", b'{"error": "text"}'])
def test_other_bodies_than_openais_errors_stay_unchanged(content: bytes) -> None:
    assert error_text(content) == content


@pytest.mark.parametrize(
    ("limit", "resource"), [("max_requests", "running"), ("max_held_bytes", "held_bytes")]
)
async def test_both_listeners_share_the_limits_of_the_process(limit: str, resource: str) -> None:
    served = serve(**{limit: 100})
    getattr(served.app.state, resource).add("another client", 100)
    response = await client_of(served).post("/vectorize", json={"texts": ["0"]})
    assert response.status_code == 503
