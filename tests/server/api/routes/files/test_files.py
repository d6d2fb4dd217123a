"""Stored files with OpenAI's client, and chats that use them."""

import numpy as np
import openai
import pytest

from tests.server.api.exchanges import CHAT, check_error, client_of
from tests.server.api.routes.files.stored import FILES, PNG, part, upload
from tests.server.application import Served


def angle(served: Served, index: int = -1) -> float:
    x, y = np.frombuffer(served.handler.embeddings[index], "<f4")
    return float(np.degrees(np.arctan2(y, x)))


async def test_openais_client(served: Served) -> None:
    client = client_of(served)
    made = await client.files.create(
        file=("a.png", b"30"),
        purpose="vision",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (made.bytes, made.filename, made.purpose) == (2, "a.png", "vision")
    assert made.expires_at == made.created_at + 3600
    assert await client.files.retrieve(made.id) == made
    content = await client.files.content(made.id)
    assert content.read() == b"30"
    assert content.response.headers["x-content-type-options"] == "nosniff"
    other = await client.files.create(file=("b.png", b"60"), purpose="user_data")
    assert {file.id async for file in await client.files.list()} == {made.id, other.id}
    assert [f.id async for f in await client.files.list(purpose="vision")] == [made.id]
    paged = [file.id async for file in await client.files.list(limit=1, order="asc")]
    assert len(paged) == len(set(paged)) == 2
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await client.files.retrieve(made.id)
    assert caught.value.code == "file_not_found"


async def test_another_key_sees_no_file(served: Served) -> None:
    made = (await upload(served, b"30")).json()
    headers = {"authorization": "Bearer second"}
    for method, path in [("GET", ""), ("GET", "/content"), ("DELETE", "")]:
        response = await served.client.request(
            method, f"{FILES}/{made['id']}{path}", headers=headers
        )
        check_error(response, 404, code="file_not_found")
    assert (await served.client.get(FILES, headers=headers)).json()["data"] == []
    body = {"messages": [{"role": "user", "content": [part(made["id"])]}]}
    response = await served.client.post(CHAT, json=body, headers=headers)
    check_error(response, 404, param="messages[0].content[0].file.file_id", code="file_not_found")


async def test_a_file_uploaded_once_is_decoded_once(served: Served) -> None:
    made = (await upload(served, b"30")).json()
    for _ in range(3):
        body = {"messages": [{"role": "user", "content": [part(made["id"])]}]}
        assert (await served.client.post(CHAT, json=body)).status_code == 200
        assert angle(served) == pytest.approx(30, abs=1e-3)
    await upload(served, b"30")
    assert served.components.components.decoded == [b"30"]


async def test_points_of_a_stored_cloud(served: Served) -> None:
    rows = b"0 0 0\n2.5 0 0\n0 2.5 0\n" + b"1.25 1.25 0\n" * 9
    header = b"ply\nformat ascii 1.0\nelement vertex 12\n"
    columns = b"property float x\nproperty float y\nproperty float z\nend_header\n"
    response = await upload(served, header + columns + rows)
    path = f"{FILES}/{response.json()['id']}/points"
    response = await served.client.get(path)
    assert response.status_code == 200, response.text
    points = np.frombuffer(response.content, "<f4").reshape(12, 3)
    assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
    other = await served.client.get(path, headers={"authorization": "Bearer second"})
    check_error(other, 404)
    picture = (await upload(served, PNG.encode("latin-1"))).json()["id"]
    message = check_error(await served.client.get(f"{FILES}/{picture}/points"), 400)
    assert "point cloud" in message
