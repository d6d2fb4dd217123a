"""/v1/score, /v1/rerank and /v1/search with fake encoders: the embedding of the text "90" is the
direction at 90 degrees.
"""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from cache_index.captions import Caption
from cache_index.enhance import Array, CacheParams
from cache_index.enhancer import EnhancedRow
from server.conditioning.retrieve import Retriever
from tests.server.api.exchanges import check_error, image
from tests.server.application import Served, serve


class FakeCache:
    """A cache of three rows: unit vectors at 0, 90 and 180 degrees."""

    defaults = CacheParams()
    captions = tuple(
        Caption(f"row {row}", str(row), {"file": f"{row % 2}.wav", "start": float(row)})
        for row in range(3)
    )

    async def enhance(
        self, query: Array, params: CacheParams, *, explain: bool = False
    ) -> EnhancedRow:
        assert explain
        similarity = np.array([[1, 0], [0, 1], [-1, 0]], np.float32) @ query
        ids = np.argsort(-similarity)[: params.top_k]
        captions = tuple(self.captions[row] for row in ids)
        return EnhancedRow(query, ids, similarity[ids], captions)

    async def aclose(self) -> None:
        pass


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = serve(retriever=Retriever(FakeCache()), max_embedding_inputs=20)  # type: ignore[arg-type]
    async with served.client:
        yield served


async def post(served: Served, path: str, **body: Any) -> Any:
    response = await served.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("names", [("text_1", "text_2"), ("data_1", "data_2")], ids="-".join)
async def test_one_input_is_scored_against_each_other(
    served: Served, names: tuple[str, str]
) -> None:
    first = {"content": [image(0)]} if names[0] == "data_1" else "0"
    body = {names[0]: first, names[1]: ["60", {"content": [image(180)]}, image(0)]}
    answer = await post(served, "/v1/score", model="tiny", **body)
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    scores = [item["score"] for item in answer["data"]]
    assert scores == pytest.approx([0.5, -1, 1], abs=1e-6)


async def test_two_lists_are_scored_in_pairs(served: Served) -> None:
    answer = await post(served, "/v1/score", text_1=["0", "90"], text_2=["60", "90"])
    assert [item["score"] for item in answer["data"]] == pytest.approx([0.5, 1], abs=1e-6)


async def test_the_best_documents_come_first(served: Served) -> None:
    documents = ["100", image(10), "50"]
    answer = await post(served, "/v1/rerank", query="0", documents=documents, top_n=2)
    assert [result["index"] for result in answer["results"]] == [1, 2]
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == pytest.approx(np.cos(np.radians([10, 50])), abs=1e-6)
    assert answer["results"][1]["document"] == {"text": "50"}
    short = await post(served, "/v1/rerank", query="0", documents=documents, return_documents=False)
    assert "document" not in short["results"][0]
    assert len(short["results"]) == 3


async def test_a_search_returns_captions_and_their_fields(served: Served) -> None:
    answer = await post(served, "/v1/search", input="80", top_k=2)
    best = answer["data"][0]
    assert best.pop("similarity") == pytest.approx(np.cos(np.radians(10)), abs=1e-6)
    assert best == {"index": 0, "id": "1", "caption": "row 1", "file": "1.wav", "start": 1.0}
    assert len(answer["data"]) == 2


@pytest.mark.parametrize(
    ("condition", "ids"),
    [({"file": "0.wav"}, ["0", "2"]), ({"id": ["1", "2"]}, ["1", "2"]), ({"other": 1}, [])],
    ids=str,
)
async def test_a_filter_keeps_rows_with_these_values(
    served: Served, condition: dict[str, Any], ids: list[str]
) -> None:
    answer = await post(served, "/v1/search", input="80", filter=condition)
    assert [item["id"] for item in answer["data"]] == ids


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("score", {"text_1": "0"}, "data_2"),
        ("score", {"text_1": ["0", "1"], "text_2": ["0"]}, "data_1"),
        ("score", {"text_1": "0", "text_2": [image(0), 5]}, "text_2[1]"),
        ("score", {"text_1": "0", "text_2": ["x"]}, "text_2[0]"),
        ("rerank", {"query": "0", "documents": "0"}, "documents"),
        ("rerank", {"documents": ["0"]}, "query"),
        ("search", {"input": ["0", "1"]}, "input"),
        ("search", {"input": "0", "top_k": 5000}, "top_k"),
        ("search", {"input": "0", "filter": {"a": {}}}, None),
    ],
    ids=str,
)
async def test_a_bad_request_names_its_field(
    served: Served, path: str, body: dict[str, Any], param: str | None
) -> None:
    response = await served.client.post(f"/v1/{path}", json=body)
    check_error(response, 400, **({"param": param} if param else {}))


async def test_a_search_needs_a_cache() -> None:
    served = serve()
    response = await served.client.post("/v1/search", json={"input": "0"})
    check_error(response, 400, code="no_cache")
