"""/tokenize and /detokenize: vLLM's endpoints, with errors in OpenAI's format.

The application includes no other endpoints of vLLM unchanged.
"""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from vllm.entrypoints.serve.tokenize.api_router import detokenize, tokenize
from vllm.entrypoints.serve.tokenize.protocol import DetokenizeRequest, TokenizeRequest

from server.api.embedding.cancellation import CLIENT_DISCONNECTED
from server.api.error_handlers import in_openai_form
from server.api.limits.fields import check_parsed
from server.api.limits.texts import check_texts
from server.api.state import state_of

router = APIRouter()


@router.post("/tokenize")
async def to_tokens(request: TokenizeRequest, raw_request: Request) -> Response:
    texts = {name: getattr(request, name, None) for name in ("prompt", "messages")}
    check_texts(texts, state_of(raw_request).prompt_limits)
    response = await tokenize(request, raw_request)
    return in_openai_form(response) if response else Response(status_code=CLIENT_DISCONNECTED)


@router.post("/detokenize")
async def to_text(request: DetokenizeRequest, raw_request: Request) -> Response:
    check_parsed(request)
    response = await detokenize(request, raw_request)
    return in_openai_form(response) if response else Response(status_code=CLIENT_DISCONNECTED)
