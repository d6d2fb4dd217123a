"""Grounding: find the nouns of an answer in the request's pictures.

Grounding starts after the text of the answer is complete, and has a deadline. If grounding fails,
the answer is returned without it.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import Request

from model_ext.grounding.nouns import Noun, installed_model
from model_ext.side import SideData
from server.api.body import Json
from server.api.grounding.pictures import Pictures, with_pictures
from server.api.grounding.search import (
    Search,
    SearchBox,
    SearchQuery,
    detector_of,
    gather_pictures,
)
from server.api.state import AppState, state_of
from server.conditioning.fetches import Fetches
from server.conditioning.first_error import all_results
from server.conditioning.options import GroundOptions, ImageBindOptions
from server.errors import BadRequest, RequestError
from server.media.attachments import Attachment
from server.metrics import stage

logger = logging.getLogger(__name__)

PARAM = "imagebind.ground"
GROUND_HEADER = "x-bindserve-grounding"
MAX_BOXES = 20  # maximum number of boxes of one noun in the response


def read_grounding(
    options: ImageBindOptions, attachments: Sequence[Attachment], raw_request: Request
) -> "Grounding | None":
    """Return the grounding that a request asks for, or None if it asks for none.

    Raises BadRequest: when the server has no detector or parser, or the request has no picture.
    """
    if not options.ground:
        return None
    state = state_of(raw_request)
    detector_of(state, PARAM)
    chosen = options.ground if isinstance(options.ground, GroundOptions) else GroundOptions()
    if chosen.nouns == "parser" and installed_model() is None:
        raise BadRequest(
            "this server has no parser of nouns; set `nouns` to `model`, or ask the operator to"
            " install bindserve[ground]",
            param=f"{PARAM}.nouns",
            code="parser_not_installed",
        )
    files = with_pictures(attachments, state.settings.max_ground_pictures, PARAM)
    fetches = state.components.conditioner.fetches(attachments)
    return Grounding(state, chosen, files, fetches)


def fetches_of(grounding: "Grounding | None") -> Fetches | None:
    """Return the downloads that a request shares with its grounding, if it asks for grounding."""
    return None if grounding is None else grounding.fetches


class Grounding:
    """The grounding of one request's answers (one for each choice)."""

    def __init__(
        self, state: AppState, options: GroundOptions, files: Sequence[Attachment], fetches: Fetches
    ) -> None:
        """`fetches`: the request's downloads, which the encoders use first."""
        self.options = options
        self.fetches = fetches
        self._state = state
        self._files = list(files)
        self._search = Search(state, options.threshold)
        self._queries: list[str] = []  # the queries of all texts, for `explanation`

    def explanation(self) -> Json:
        """Return the queries and the threshold, for the response's `imagebind.grounding`."""
        return {
            "nouns": self.options.nouns,
            "threshold": self._search.used_threshold,
            "queries": list(dict.fromkeys(self._queries)),
        }

    async def of_texts(self, texts: Sequence[str]) -> list[list[Json] | None]:
        """Ground several texts. If this fails or is too slow, returns None for each text."""
        try:
            async with asyncio.timeout(self._state.settings.ground_timeout_s):
                with stage("ground"):
                    pictures = await gather_pictures(self._state, self._files, self.fetches)
                    return [*await all_results(self._ground(text, pictures) for text in texts)]
        except TimeoutError:
            logger.warning("grounding took longer than ground_timeout_s")
        except RequestError as error:
            logger.warning("grounding failed: %s", error.message)
        except Exception:  # an error of grounding must not lose the finished answer
            logger.exception("grounding failed")
        finally:
            # This closes the files.
            self._files.clear()
            self.fetches.close()
        return [None] * len(texts)

    async def _ground(self, text: str, pictures: Sequence[Pictures]) -> list[Json]:
        nouns = (await self._nouns(text))[: self._state.settings.max_ground_nouns]
        # Nouns with equal phrases share one query.
        phrases = list(dict.fromkeys(noun.phrase.lower() for noun in nouns))
        self._queries += phrases
        boxes = await self._search.run(pictures, [SearchQuery(phrase) for phrase in phrases])
        places = {phrase: index for index, phrase in enumerate(phrases)}
        return [described(noun, places[noun.phrase.lower()], pictures, boxes) for noun in nouns]

    async def _nouns(self, text: str) -> list[Noun]:
        if not text.strip():
            return []
        if self.options.nouns == "model":
            from server.api.grounding.model_nouns import nouns_by_model  # this import loads vLLM

            return await nouns_by_model(text, self._state)
        result = await self._search.ask(SideData({"task": "nouns", "text": text}))
        return [noun_of(fields) for fields in result.document["nouns"]]


def noun_of(fields: dict[str, Any]) -> Noun:
    return Noun(**{**fields, "modifiers": tuple(fields["modifiers"])})


def described(
    noun: Noun, query: int, pictures: Sequence[Pictures], boxes: Sequence[Sequence[SearchBox]]
) -> Json:
    """Return a noun with its boxes in the part with the highest score. `boxes`: the boxes of each
    part.
    """
    own = [[each for each in part if each.query == query] for part in boxes]
    best = max(range(len(own)), key=lambda part: own[part][0].score if own[part] else -1.0)
    found_boxes = own[best][:MAX_BOXES]
    return {
        "noun": noun.text,
        "span": [noun.start, noun.end],
        "part": pictures[best].param if found_boxes else None,
        "boxes": [each.to_json() for each in found_boxes],
        "found": bool(found_boxes),
    }
