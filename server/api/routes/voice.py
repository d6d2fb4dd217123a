"""/v1/audio/speech in OpenAI's format: the side model `voice` reads a text aloud."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from model_ext.side import SideData
from server.api.body import Incoming, read_json
from server.api.embedding.cancellation import respond_unless_disconnected
from server.api.prompt.inputs import parse
from server.api.speech.sound_files import sound_file
from server.api.state import state_of
from server.errors import BadRequest, RequestError

router = APIRouter()

PATH = "/v1/audio/speech"
VOICE = "voice"


class SpeechRequest(BaseModel):
    """`voice` and `instructions` have no effect, because the model has one voice."""

    input: str
    model: str | None = None
    voice: str | dict[str, str] | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    speed: float = 1.0
    stream_format: Literal["audio"] = "audio"


@router.post(PATH)
async def create_speech(raw_request: Request) -> Response:
    incoming = await read_json(raw_request)
    return await respond_unless_disconnected(speak(incoming, raw_request), raw_request)


async def speak(incoming: Incoming, raw_request: Request) -> Response:
    sides = state_of(raw_request).components.sides
    if VOICE not in sides:
        raise BadRequest(
            "this server has no voice; the operator enables it with --voice",
            code="voice_not_enabled",
        )
    request = parse(SpeechRequest, incoming.document)
    task = SideData({"text": request.input, "speed": request.speed})
    try:
        result = await sides[VOICE].ask(task)
    except RequestError as error:
        raise type(error)(error.message, param="input", code=error.code) from None
    # Encode in a thread, because the sound of a long text takes up to a second.
    data, media_type = await asyncio.to_thread(
        sound_file, result.arrays["samples"], result.document["rate"], request.response_format
    )
    return Response(data, media_type=media_type)
