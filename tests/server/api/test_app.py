"""The whole application, with fakes of the engine and the encoders: request ids, models, health,
metrics, the operator's middleware and the root path.
"""

import pytest

from tests.server.api.exchanges import CHAT, check_error, image
from tests.server.application import Served, serve


async def test_every_answer_has_an_id(served: Served) -> None:
    for path in ("/v1/models", "/v1/nope", "/health"):
        response = await served.client.get(path)
        assert len(response.headers["x-request-id"]) == 32
    for client_id, kept in [
        ("mine-1.2", True),
        ("x" * 65, False),
        ("a b", False),
        ("\u00e9", False),
    ]:
        headers = {"x-request-id": client_id.encode("latin-1")}
        response = await served.client.get("/health", headers=headers)  # type: ignore[arg-type]
        assert (response.headers.get_list("x-request-id") == [client_id]) == kept
    locked = serve("right")
    assert (await locked.client.get("/v1/models")).headers["x-request-id"]


async def test_models_have_their_provenance_but_not_their_path(served: Served) -> None:
    response = await served.client.get("/v1/models")
    assert "secret" not in response.text
    (card,) = response.json()["data"]
    assert card["imagebind"] == {"encoders": ["vision"], "tools": False}
    assert (await served.client.get("/v1/models/tiny")).json()["id"] == "tiny"
    check_error(await served.client.get("/v1/models/other"), 404, code="model_not_found")


async def test_head_of_the_health_checks(served: Served) -> None:
    for path in ("/health", "/ready"):
        assert (await served.client.head(path)).status_code == 200
    served.components.lost = "the encoders stopped"
    assert (await served.client.head("/ready")).status_code == 503


async def test_health_and_readiness(served: Served) -> None:
    async def status(path: str) -> int:
        return (await served.client.get(path)).status_code

    assert [await status("/health"), await status("/ready")] == [200, 200]
    served.components.lost = "the encoders stopped"
    assert [await status("/health"), await status("/ready")] == [200, 503]
    served.components.lost, served.engine.draining = None, True
    assert [await status("/health"), await status("/ready")] == [200, 503]
    served.engine.draining, served.engine.seconds_stalled = False, 31
    assert [await status("/health"), await status("/ready")] == [200, 503]
    served.engine.errored = True
    assert [await status("/health"), await status("/ready")] == [503, 503]


async def test_metrics_of_the_stages_are_on_the_page(served: Served) -> None:
    content = [image(12)]
    await served.client.post(CHAT, json={"messages": [{"role": "user", "content": content}]})
    page = (await served.client.get("/metrics")).text
    for stage, modality in [("attachments", ""), ("embed", "text"), ("retrieve", "")]:
        labels = f'{{modality="{modality}",stage="{stage}"}}'
        assert f"bindserve_stage_seconds_count{labels}" in page


async def test_the_operators_middleware_is_applied() -> None:
    served = serve(flags={"middleware": ["tests.server.application.Stamp"]})
    assert (await served.client.get("/health")).headers["x-stamp"] == "operator"
    with pytest.raises(ValueError, match="FLAGS: neither a class nor a coroutine function"):
        serve(flags={"middleware": ["tests.server.application.FLAGS"]})


async def test_limits_apply_to_paths_with_the_root_path() -> None:
    """A proxy may leave the root path in the URL, and the router accepts such a URL."""
    served = serve("client", flags={"root_path": "/api"}, max_requests=1)
    headers = {"authorization": "Bearer client"}
    assert (await served.client.get("/api/health")).status_code == 200
    served.app.state.running.add("another client")
    for path in ("/v1/chat/completions", "/api/v1/chat/completions"):
        response = await served.client.post(path, json={}, headers=headers)
        check_error(response, 503, code="server_full")


async def test_a_form_with_the_root_path_may_have_the_size_of_an_upload() -> None:
    served = serve(flags={"root_path": "/api"}, max_body_bytes=100)
    files = {"file": ("a.txt", b"0" * 1000)}
    response = await served.client.post("/api/v1/files", files=files, data={"purpose": "vision"})
    assert response.status_code != 413
