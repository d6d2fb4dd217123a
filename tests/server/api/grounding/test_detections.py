"""/v1/detections: texts and files as queries, limits and errors."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from model_ext.grounding.side import GroundingModel
from model_ext.side import SideModel
from server.conditioning.conditioner import Conditioner
from server.encoding.client import EncodingClient
from tests.model_ext.grounding.small import DIM, small_detector
from tests.server.api.grounding.colors import ColorDetector, error_of, part, picture
from tests.server.application import Served
from tests.server.side.served import application

pytestmark = pytest.mark.asyncio(loop_scope="package")

JSON = {"Content-Type": "application/json"}
RED, BLUE = (10, 20, 30, 50), (40, 5, 70, 25)


def enable(served: Served, folder: Path, kind: str) -> Served:
    folder = folder / "detector"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    settings = served.app.state.settings
    served.app.state.settings = settings.model_copy(update={"detector": folder})
    return served


@pytest_asyncio.fixture(loop_scope="package")
async def served(encoding: Path, tmp_path: Path) -> AsyncIterator[Served]:
    model: SideModel = GroundingModel(ColorDetector(), None, "cpu")
    async with application(encoding, {"detector": model}) as served:
        yield enable(served, tmp_path, "owlv2")


async def detect(served: Served, **body: Any) -> Any:
    return await served.client.post("/v1/detections", json=body)


async def test_boxes_of_each_query_in_each_picture(served: Served) -> None:
    pictures = [part(picture(("red", RED), ("blue", BLUE))), part(picture(size=(50, 9)))]
    response = await detect(served, input=pictures, queries=["red car", "blue", "green"])
    assert response.status_code == 200, response.text
    first, second = response.json()["data"]
    assert (first["part"], first["width"], first["height"]) == ("input[0]", 80, 60)
    assert [(each["query"], each["label"]) for each in first["detections"]] == [
        (0, "red car"),
        (1, "blue"),
    ]
    for each, box in zip(first["detections"], (RED, BLUE), strict=True):
        assert list(each["box"].values()) == list(box)
        assert list(each["box"]) == ["xmin", "ymin", "xmax", "ymax"]
    assert second == {
        **{"index": 1, "part": "input[1]", "width": 50, "height": 9, "detections": []},
    }


async def test_one_part_is_enough_and_a_threshold_is_used(served: Served) -> None:
    red = part(picture(("red", RED)))
    (item,) = (await detect(served, input=red, queries=["red"])).json()["data"]
    assert (item["part"], len(item["detections"])) == ("input", 1)
    (item,) = (await detect(served, input=red, queries=["red"], threshold=0.95)).json()["data"]
    assert item["detections"] == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"queries": []}, "queries"),
        ({"queries": "red"}, "queries"),
        ({"queries": None}, "queries"),
        ({"queries": ["red"] * 65}, "queries"),
        ({"queries": ["red", 3]}, "queries[1]"),
        ({"queries": [" "]}, "queries[0]"),
        ({"queries": ["a" * 1001]}, "queries[0]"),
        ({"queries": ["\ud800"]}, "queries[0]"),
        ({"queries": [{"type": "surprise"}]}, "queries[0]"),
        ({"queries": [{"type": "imagebind_embedding", "imagebind_embedding": [1, 0]}]}, None),
        ({"input": None}, "input"),
        ({"input": "text"}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "imagebind_text", "text": "a"}]}, "input"),
        ({"input": [part(picture())] * 5}, None),
        ({"threshold": 2}, "threshold"),
        ({"threshold": "high"}, "threshold"),
        ({"model": "other"}, "model"),
    ],
)
async def test_wrong_requests_name_the_field(
    served: Served, change: dict[str, Any], param: str | None
) -> None:
    body = {"input": part(picture()), "queries": ["red"], **change}
    response = await served.client.post(
        "/v1/detections", content=json.dumps(body).encode(), headers=JSON
    )
    error = error_of(response, 404 if "model" in change else 400)
    assert param is None or error["param"] == param


async def test_a_server_without_detector_says_so(served: Served) -> None:
    served.components.sides = {}
    error = error_of(await detect(served, input=part(picture()), queries=["red"]), 400)
    assert error["code"] == "detector_not_enabled"


async def test_files_are_queries_of_a_detector_that_takes_embeddings(
    encoding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queries are a text, a picture and an embedding. The detector gets the vector of each."""
    vectors = {"text": np.eye(DIM)[0], "file": np.eye(DIM)[1]}
    detector = small_detector()
    seen: list[Any] = []
    own_detect = detector.detect

    def detect_and_record(pictures: Any, queries: Any, threshold: float) -> Any:
        seen.extend(queries)
        return own_detect(pictures, queries, threshold)

    async def embed(*_: Any) -> Any:
        return type("Result", (), {"unit": vectors["text"].astype(np.float32)})

    async def embed_unit(*_: Any) -> Any:
        return vectors["file"].astype(np.float32)

    monkeypatch.setattr(detector, "detect", detect_and_record)
    monkeypatch.setattr(EncodingClient, "embed", embed)
    monkeypatch.setattr(Conditioner, "embed_unit", embed_unit)
    model: SideModel = GroundingModel(detector, None, "cpu")
    async with application(encoding, {"detector": model}) as served:
        enable(served, tmp_path, "bindserve_detector")
        queries = ["dog", part(picture(("red", RED)))]
        response = await detect(served, input=part(picture()), queries=queries, threshold=0.0)
        assert response.status_code == 200, response.text
        ((text, file),) = seen
        assert (text.vector == vectors["text"]).all()
        assert (file.vector == vectors["file"]).all()
        assert (text.modality, file.modality) == ("text", "image")
        (item,) = response.json()["data"]
        assert {each["label"] for each in item["detections"]} == {"dog", None}


async def test_a_detector_of_texts_rejects_files(served: Served) -> None:
    red = part(picture(("red", RED)))
    error = error_of(await detect(served, input=red, queries=["red", red]), 400)
    assert error["param"] == "queries[1]"
    assert "texts" in error["message"]
