"""/v1/audio/transcriptions and /v1/audio/translations in OpenAI's format, by the speech model.

The decoding processes read the file, and the speech model's process gets the samples. A long sound
is transcribed in pieces, so that memory does not grow with its length.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from model_ext.imagebind.preprocess.container import is_audio
from model_ext.imagebind.preprocess.sniff import sniff
from model_ext.side import Json, SideData, ignore
from server.api.embedding.cancellation import CLIENT_DISCONNECTED, unless_disconnected
from server.api.multipart import Form
from server.api.speech.formats import MEDIA_TYPES, PLAIN, Transcript, moved, render
from server.api.speech.options import TranscriptionOptions
from server.api.speech.pieces import Piece, pieces
from server.api.state import AppState, state_of
from server.errors import BadRequest, RequestError, UnsupportedMediaType, body
from server.media.attachments import not_read
from server.media.blob import Blob
from server.media.sources import check_size
from server.settings import Settings
from server.side.client import SideClient

router = APIRouter()

TASKS = {"/v1/audio/transcriptions": "transcribe", "/v1/audio/translations": "translate"}
PATHS = tuple(TASKS)
SPEECH = "speech"


@router.post("/v1/audio/transcriptions")
async def create_transcription(request: Request) -> Response:
    return await respond(request, "transcribe")


@router.post("/v1/audio/translations")
async def create_translation(request: Request) -> Response:
    return await respond(request, "translate")


async def respond(request: Request, task: str) -> Response:
    state = state_of(request)
    speech = speech_of(state)
    async with state.components.uploads.receive(request) as form:
        options = TranscriptionOptions.read(form.fields)
        content, modality = sound_of(form, state.settings)
    work = Transcription(state, speech, task, content, modality, options)
    if options.stream:
        return StreamingResponse(work.events(), media_type="text/event-stream")
    transcript = await unless_disconnected(work.run(), request)
    if transcript is None:
        return Response(status_code=CLIENT_DISCONNECTED)
    media_type = MEDIA_TYPES.get(options.format, PLAIN)
    return Response(render(transcript, options), media_type=media_type)


def speech_of(state: AppState) -> SideClient:
    if SPEECH not in state.components.sides:
        raise BadRequest(
            "this server transcribes no sounds; the operator enables it with --speech-model",
            code="speech_not_enabled",
        )
    return state.components.sides[SPEECH]


def sound_of(form: Form, settings: Settings) -> tuple[Blob, str]:
    """Take the file out of the form. Returns its content and its modality: audio or video.

    Raises BadRequest, UnsupportedMediaType, TooLarge.
    """
    file = form.only_file()
    content = file.spool.blob()
    modality = sniff(content.head(), file.filename)
    if modality is None:
        raise UnsupportedMediaType(not_read(content.head()), param="file")
    if modality not in ("audio", "video"):
        raise UnsupportedMediaType(
            f"expected a sound or a video, not a file of the modality {modality}", param="file"
        )
    limit = settings.limits.bytes_of(modality)
    if is_audio(content.head()):
        limit = settings.max_window_file_bytes
    check_size(content, limit, "file")
    return content, modality


class Transcription:
    """Transcribes the sound of one request."""

    def __init__(
        self,
        state: AppState,
        speech: SideClient,
        task: str,
        content: Blob,
        modality: str,
        options: TranscriptionOptions,
    ) -> None:
        self._components, self._speech = state.components, speech
        self._content, self._modality = content, modality
        self._document: Json = {
            "task": task,
            "language": options.language,
            "prompt": options.prompt,
            "temperature": options.temperature,
            "words": options.words,
        }
        self._transcript = Transcript(task)

    async def run(self, on_segment: Callable[[Json], None] = ignore) -> Transcript:
        """Transcribe all pieces. `on_segment` gets each segment when it is ready.

        Raises a RequestError that names the file.
        """
        cutter, encoders = self._components.cutter, self._components.encoders
        try:
            async with aclosing(pieces(self._content, self._modality, encoders, cutter)) as sound:
                async for piece in sound:
                    result = await self._transcribe(piece, on_segment)
                    self._transcript.add(piece.start, result.document)
        except RequestError as error:
            raise type(error)(error.message, param=error.param or "file", code=error.code) from None
        return self._transcript

    async def _transcribe(self, piece: Piece, on_segment: Callable[[Json], None]) -> SideData:
        data = SideData(self._document, {"samples": piece.samples})
        if piece.whole and on_segment is ignore:

            async def load() -> SideData:
                return data

            return await self._speech.cached(await self._content.digest(), self._document, load)
        return await self._speech.ask(data, lambda part: on_segment(moved(part, piece.start)))

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield OpenAI's events: one delta per segment, and then the whole text."""
        segments: asyncio.Queue[Json | None] = asyncio.Queue()
        work = asyncio.ensure_future(self.run(segments.put_nowait))
        work.add_done_callback(lambda _: segments.put_nowait(None))
        try:
            async for delta in deltas(segments):
                yield event({"type": "transcript.text.delta", "delta": delta})
            text = (await work).text
            yield event({"type": "transcript.text.done", "text": text})
        except RequestError as error:
            yield event(body(error))
        finally:
            work.cancel()
            await asyncio.wait([work])


async def deltas(segments: "asyncio.Queue[Json | None]") -> AsyncIterator[str]:
    """Yield the text of each segment. Joined, these texts are the whole text."""
    first = True
    while (segment := await segments.get()) is not None:
        yield segment["text"].lstrip() if first else segment["text"]
        first = False


def event(document: Json) -> str:
    return f"data: {json.dumps(document)}\n\n"
