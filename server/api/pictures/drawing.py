"""Draw the pictures of one request, in the side model `pictures`.

The picture's condition is computed by `server/conditioning`, and the JSON around the pictures is
written by the other modules of this folder.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
from fastapi import Request

from model_ext.conditioning import Vector
from model_ext.side import SideData
from server.api.state import state_of
from server.conditioning.conditioner import Conditioned, Conditioner
from server.conditioning.first_error import all_results
from server.conditioning.options import ImageBindOptions
from server.conditioning.picture_options import MAX_SEED, PictureOptions
from server.errors import BadRequest, InternalError, RequestError
from server.media.attachments import Attachment
from server.media.blob import MemoryBlob
from server.side.catalog import PICTURES
from server.side.client import SideClient

logger = logging.getLogger(__name__)

# The text encoder reads at most 77 tokens, so the rest of a longer text has no effect.
MAX_TEXT_BYTES = 4096
# PNG files, or the error if they could not be drawn
Drawn = tuple[list[bytes], RequestError | None]


class PictureRequest:
    """The pictures that one request asks for, with checked options."""

    def __init__(
        self, decoder: SideClient, document: dict[str, Any], seed: int, prompt: str, count: int
    ) -> None:
        """`document`: the options for drawing. The pictures have consecutive seeds, from `seed` on.
        `prompt`: the text for a decoder that reads texts. It is cut to `MAX_TEXT_BYTES`.
        """
        self._decoder = decoder
        self._document = document
        self._seed = seed
        text = prompt.encode(errors="ignore")[:MAX_TEXT_BYTES]
        self._prompt = text.decode(errors="ignore")  # drops a character that was cut in two
        self._count = count

    async def condition_on_text(
        self, conditioner: Conditioner, conditioned: Conditioned, options: ImageBindOptions
    ) -> Conditioned:
        """Condition the pictures of a request without attachments on the embedding of its text.

        Raises BadRequest: when the text is empty.
        """
        if not self._prompt:
            raise BadRequest("a picture needs a text or an attachment", param="messages")
        attachment = Attachment("text", MemoryBlob(self._prompt.encode()), 1.0, "messages")
        of_text = await conditioner.condition_picture([attachment], options)
        return replace(conditioned, picture=of_text.picture)

    def start(self, vector: Vector | None, *, streamed: bool) -> "Drawing":
        """Start to draw in the background. `vector` (D,): the condition of the pictures.
        `streamed`: whether the answer is a stream, which starts the drawing itself.
        """
        assert vector is not None
        return Drawing(partial(self.draw, vector), streamed=streamed)

    async def draw(self, vector: Vector) -> list[bytes]:
        """Draw the pictures. Returns PNG files.

        Raises BadRequest, Unavailable, InternalError.
        """
        return await all_results(self._draw_one(vector, n) for n in range(self._count))

    async def _draw_one(self, vector: Vector, number: int) -> bytes:
        document = {**self._document, "prompt": self._prompt, "seed": self._seed + number}
        task = SideData(document, {"embedding": vector.astype(np.float32)})
        return (await self._decoder.ask(task)).arrays["png"].tobytes()


def picture_request(
    raw_request: Request,
    options: ImageBindOptions,
    prompt: str,
    count: int | None,
    count_param: str | None = None,
) -> PictureRequest:
    """Check a request for `count` pictures (default 1), with the options of `imagebind.picture`.

    `count_param`: the field with the number of pictures.
    Raises BadRequest: when the server has no decoder, or a value is wrong.
    """
    values = options.picture or PictureOptions()
    return checked_request(raw_request, values, prompt, count, "imagebind.picture", count_param)


def checked_request(
    raw_request: Request,
    options: PictureOptions,
    prompt: str,
    count: int | None,
    param: str,
    count_param: str | None,
) -> PictureRequest:
    """Check a request as `picture_request` does. `param`: the object with the options, for errors;
    "" if the request itself has them.
    """
    state = state_of(raw_request)
    decoder = state.components.sides.get(PICTURES.name)
    if decoder is None:
        raise BadRequest(
            "this server draws no pictures; the operator may enable a decoder with --decoder",
            code="no_decoder",
        )
    count = 1 if count is None else count
    maximum = state.settings.max_pictures
    if not 1 <= count <= maximum:
        raise BadRequest(f"{count_param} must be 1 to {maximum} for pictures", param=count_param)
    document = options.document(state.settings, param)
    seed = random.randrange(MAX_SEED) if options.seed is None else options.seed
    return PictureRequest(decoder, document, seed, prompt, count)


class Drawing:
    """Pictures that are drawn while the language model writes the text of the same answer.

    The generator of a stream calls `begin` and `close`. If the client leaves before the first
    event, the generator never runs, so it could not stop a drawing that had already begun.
    """

    def __init__(
        self, draw: Callable[[], Awaitable[list[bytes]]], *, streamed: bool = False
    ) -> None:
        """`streamed`: whether the drawing starts only when `begin` is called."""
        self._draw = draw
        self._streamed = streamed
        self._task: asyncio.Task[Drawn] | None = None
        if not streamed:
            self.begin()

    def begin(self) -> None:
        """Start to draw, unless the drawing has already begun."""
        if self._task is None:
            self._task = asyncio.ensure_future(without_error(self._draw))

    async def result(self) -> Drawn:
        """Wait for the pictures. The drawing must have begun."""
        assert self._task is not None
        return await self._task

    async def close(self) -> None:
        """Cancel the drawing unless it is finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._streamed:
            await self.close()


async def without_error(draw: Callable[[], Awaitable[list[bytes]]]) -> Drawn:
    """Return the pictures or, if they cannot be drawn, the error, so that the answer still has its
    text.
    """
    try:
        return await draw(), None
    except RequestError as error:
        return [], error
    except Exception:
        logger.exception("a picture could not be drawn")
        return [], InternalError("the server failed to draw the picture")
