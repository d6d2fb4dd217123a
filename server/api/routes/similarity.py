"""/v1/score, /v1/rerank and /v1/search: similarities of inputs of any modalities, without the LLM.

An input is a string, a content part, {"content": [parts]}, or a list of parts, which are mixed. A
similarity is the cosine of two embeddings, from -1 to 1. The requests and responses have the
formats of vLLM and Jina.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from cache_index.captions import Caption
from cache_index.enhance import MAX_TOP_K
from model_ext.conditioning import Vector
from server.api.body import Incoming, Json, read_json
from server.api.embedding.cancellation import respond_unless_disconnected
from server.api.embedding.embed import (
    WindowEmbedding,
    check_count,
    check_model,
    embed_parts,
    embed_windows,
    units,
)
from server.api.prompt.inputs import parse
from server.api.state import state_of
from server.conditioning.options import ImageBindOptions, take_options
from server.errors import BadRequest
from server.media.attachments import Part
from server.media.input_forms import item_parts, read_input_forms
from server.metrics import stage

router = APIRouter()

WITHOUT_CACHE = ImageBindOptions(cache=False)
# Names that vLLM's versions use for the two lists of /v1/score.
FIRST = ("data_1", "text_1", "queries")
SECOND = ("data_2", "text_2", "documents", "items")
USAGE = {"prompt_tokens": 0, "total_tokens": 0}  # 0, because the LLM processes no tokens

Handler = Callable[[Incoming, Request], Coroutine[Any, Any, Response]]
Scalar = str | int | float | bool | None


class ScoreRequest(BaseModel):
    model: str | None = None


class RerankRequest(BaseModel):
    model: str | None = None
    top_n: int | None = Field(None, ge=0)
    return_documents: bool = True


class SearchRequest(BaseModel):
    model: str | None = None
    top_k: int = Field(10, ge=1)
    filter: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)


@router.post("/v1/score")
async def create_scores(raw_request: Request) -> Response:
    return await run(score, raw_request)


@router.post("/v1/rerank")
async def create_ranking(raw_request: Request) -> Response:
    return await run(rerank, raw_request)


@router.post("/v1/search")
async def create_search(raw_request: Request) -> Response:
    return await run(search, raw_request)


async def run(handler: Handler, raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond_unless_disconnected(handler(incoming, raw_request), raw_request)


async def score(incoming: Incoming, raw_request: Request) -> Response:
    """Return N similarities: of one input and each of N others, or of the pairs of two lists of N
    inputs. With windows, the similarity of two files is the mean over their windows.
    """
    state, document = state_of(raw_request), incoming.document
    options = take_options(document, windows=True)
    request = parse(ScoreRequest, document)
    check_model(request.model, state)
    maximum = state.settings.max_embedding_inputs
    first = side(document, FIRST, maximum)
    second = side(document, SECOND, maximum)
    if len(first) not in (1, len(second)):
        raise BadRequest(
            f"{FIRST[0]} must hold one item, or as many as {SECOND[0]}", param=FIRST[0]
        )
    if options.windows is not None:
        windows = await embed_windows([*first, *second], options.windows, incoming, raw_request)
        data = window_scores(windows, len(first), len(second))
    else:
        conditioned = await embed_parts([*first, *second], WITHOUT_CACHE, incoming, raw_request)
        embeddings = units(conditioned)
        scores = (embeddings[: len(first)] * embeddings[len(first) :]).sum(axis=1)
        data = [
            {"index": index, "object": "score", "score": value}
            for index, value in enumerate(scores.tolist())
        ]
    name = request.model or state.settings.name
    return JSONResponse({"object": "list", "model": name, "data": data, "usage": USAGE})


def window_scores(windows: Sequence[WindowEmbedding], first: int, second: int) -> list[Json]:
    """Return the score of each pair of files: the mean cosine of their windows that start at the
    same time.

    `first`, `second`: the number of files on each side. Omits the windows of the longer file that
    the other file does not have.
    """
    files: list[list[Vector]] = [[] for _ in range(first + second)]
    for window in windows:
        files[window.number].append(window.embedding)
    data: list[Json] = []
    for index in range(second):
        one, other = files[index if first > 1 else 0], files[first + index]
        cosines = [float(a @ b) for a, b in zip(one, other, strict=False)]
        data.append(
            {
                "index": index,
                "object": "score",
                "score": sum(cosines) / len(cosines),
                "imagebind": {"windows": len(cosines)},
            }
        )
    return data


async def rerank(incoming: Incoming, raw_request: Request) -> Response:
    """Sort documents by their similarity to the query, best first."""
    state, document = state_of(raw_request), incoming.document
    request = parse(RerankRequest, document)
    check_model(request.model, state)
    documents = document.get("documents")
    if isinstance(documents, dict) and isinstance(documents.get("content"), list):
        documents = documents["content"]  # vLLM's form: one part is one document
    if not isinstance(documents, list):
        raise BadRequest("documents must be a list", param="documents")
    check_count(len(documents), state.settings.max_embedding_inputs, "documents")
    parts = [item_parts(each, f"documents[{index}]") for index, each in enumerate(documents)]
    query = item_parts(document.get("query"), "query")
    conditioned = await embed_parts([query, *parts], WITHOUT_CACHE, incoming, raw_request)
    embeddings = units(conditioned)
    scores = embeddings[1:] @ embeddings[0]
    order = np.argsort(-scores, kind="stable")[: request.top_n or None].tolist()
    results: list[Json] = [
        {"index": index, "relevance_score": float(scores[index])} for index in order
    ]
    if request.return_documents:
        for result in results:
            text = documents[result["index"]]
            result["document"] = {"text": text} if isinstance(text, str) else {"multi_modal": text}
    name = request.model or state.settings.name
    return JSONResponse({"id": None, "model": name, "results": results, "usage": USAGE})


async def search(incoming: Incoming, raw_request: Request) -> Response:
    """Find the rows of the retrieval cache that are most similar to one input."""
    state = state_of(raw_request)
    request = parse(SearchRequest, incoming.document)
    check_model(request.model, state)
    maximum = min(state.settings.max_cache_top_k, MAX_TOP_K)
    if request.top_k > maximum:
        raise BadRequest(f"top_k must be at most {maximum}", param="top_k")
    inputs = read_input_forms(incoming.document, 1)
    (conditioned,) = await embed_parts(inputs, WITHOUT_CACHE, incoming, raw_request)
    # The index cannot filter, so a request with a filter searches the maximum number of rows and
    # filters them afterwards.
    count = maximum if request.filter else request.top_k
    with stage("retrieve"):
        rows = await state.components.retriever.search(units([conditioned])[0], count)
    nearest = [row for row in rows if matches(row[1], request.filter)][: request.top_k]
    data = [
        {
            **caption.fields,
            "index": index,
            "id": caption.id,
            "caption": caption.caption,
            "similarity": similarity,
        }
        for index, (similarity, caption) in enumerate(nearest)
    ]
    name = request.model or state.settings.name
    return JSONResponse({"object": "list", "model": name, "data": data, "usage": USAGE})


def side(document: Json, names: tuple[str, ...], maximum: int) -> list[list[Part]]:
    """Return the content parts of each input in one of the two lists of /v1/score."""
    given = [name for name in names if document.get(name) is not None]
    if len(given) != 1:
        raise BadRequest(f"send exactly one of {', '.join(names)}", param=names[0])
    value: Any = document[given[0]]
    if not isinstance(value, list):
        return [item_parts(value, given[0])]
    check_count(len(value), maximum, given[0])
    return [item_parts(each, f"{given[0]}[{index}]") for index, each in enumerate(value)]


def matches(caption: Caption, conditions: dict[str, Scalar | list[Scalar]]) -> bool:
    """Whether each key of the row has the value in the filter, or one of the values in a list."""
    fields = {**caption.fields, "id": caption.id, "caption": caption.caption}
    return all(
        fields.get(key) in value if isinstance(value, list) else fields.get(key) == value
        for key, value in conditions.items()
    )
