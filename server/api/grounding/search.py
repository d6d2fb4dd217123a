"""Search pictures for queries with the detector, and return boxes in pixels of the uploaded
picture.

A query is a text, or a file of any modality if the detector takes embeddings.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model_ext.conditioning import Vector
from model_ext.grounding.folders import takes
from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS
from model_ext.side import SideData
from server.api.body import Json
from server.api.grounding.pictures import Pictures, read_pictures
from server.api.state import AppState
from server.conditioning.first_error import all_results
from server.errors import BadRequest
from server.media.attachments import Attachment
from server.media.blob import MemoryBlob
from server.side.client import SideClient

DETECTOR = "detector"
MAX_TASKS = 8  # maximum number of tasks of one request in the detector's process at a time


@dataclass(frozen=True, slots=True)
class SearchQuery:
    text: str = ""
    file: Attachment | None = None  # If set, the query is this file and not the text.


@dataclass(frozen=True, slots=True)
class SearchBox:
    """A box around a thing that the detector found in a picture."""

    query: int  # index of the query
    score: float
    box: Json  # The keys xmin, ymin, xmax and ymax, in pixels of the uploaded picture.
    time: float | None  # Time of the frame in the video, in seconds.

    def to_json(self) -> Json:
        time = {} if self.time is None else {"time": self.time}
        return {"box": self.box, "score": self.score, **time}


class Search:
    """Runs the detector for one request."""

    def __init__(self, state: AppState, threshold: float | None) -> None:
        """`threshold`: the minimum score of a box. None: the detector's default."""
        self._state = state
        self._side = detector_of(state)
        self._places = asyncio.Semaphore(MAX_TASKS)
        self._threshold = threshold
        self.used_threshold = threshold  # None until the detector has answered
        assert state.settings.detector is not None
        self._takes_vectors = takes(state.settings.detector) == "vectors"

    async def run(
        self, pictures: Sequence[Pictures], queries: Sequence[SearchQuery]
    ) -> list[list[SearchBox]]:
        """Search all pictures for all queries. Returns a list of boxes for each picture, highest
        score first.

        Raises BadRequest: when a query is a file, but the detector takes only texts. Raises
        Unavailable.
        """
        self._check(queries)
        if not queries:
            return [[] for _ in pictures]
        arrays = {}
        if self._takes_vectors:
            arrays["vectors"] = np.stack(await all_results(map(self._embed, queries)))
        document: Json = {
            "task": "detect",
            "threshold": self._threshold,
            "queries": [
                {"text": query.text, "modality": query.file.modality if query.file else "text"}
                for query in queries
            ],
        }
        tasks = (SideData(document, {**arrays, "pictures": each.frames}) for each in pictures)
        results = await all_results(map(self.ask, tasks))
        self.used_threshold = results[0].document["threshold"]
        return [
            self._boxes(result.document, own) for result, own in zip(results, pictures, strict=True)
        ]

    async def ask(self, task: SideData) -> SideData:
        """Run a task in the detector's process. Waits while `MAX_TASKS` tasks of the request run.

        Raises as `SideClient.ask` does.
        """
        async with self._places:
            return await self._side.ask(task)

    def _check(self, queries: Sequence[SearchQuery]) -> None:
        for query in queries:
            if query.file is not None and not self._takes_vectors:
                raise BadRequest(
                    "this server's detector takes texts as queries, not files",
                    param=query.file.param,
                )

    async def _embed(self, query: SearchQuery) -> Vector:
        if query.file is not None:
            return await self._state.components.conditioner.embed_unit(query.file)
        blob = MemoryBlob(query.text.encode())
        return (await self._state.components.encoders.embed("text", blob, DEFAULT_OPTIONS)).unit

    def _boxes(self, result: Json, pictures: Pictures) -> list[SearchBox]:
        horizontal, vertical = pictures.scale
        boxes = []
        for frame, detections in enumerate(result["frames"]):
            time = pictures.times[frame] if pictures.times else None
            for each in detections:
                left, top, right, bottom = each["box"]
                box = {
                    **{"xmin": left * horizontal, "ymin": top * vertical},
                    **{"xmax": right * horizontal, "ymax": bottom * vertical},
                }
                boxes.append(SearchBox(each["query"], each["score"], box, time))
        return sorted(boxes, key=lambda each: -each.score)


def detector_of(state: AppState, param: str | None = None) -> SideClient:
    """Return the detector. Raises BadRequest: when the server has no detector."""
    if DETECTOR not in state.components.sides:
        raise BadRequest(
            "this server has no detector; the operator enables one with --detector FOLDER",
            param=param,
            code="detector_not_enabled",
        )
    return state.components.sides[DETECTOR]


async def gather_pictures(state: AppState, files: Sequence[Attachment]) -> list[Pictures]:
    """Read the pictures of all files. Raises a RequestError that names the file."""
    components = state.components
    return await all_results(
        read_pictures(file, components.conditioner, components.encoders) for file in files
    )
