"""vLLM's own routes, served as they are but for the form of errors: this is the whole list.

They generate nothing. What is not here, or in another file of ours, does not exist.
"""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from vllm.entrypoints.serve.tokenize.api_router import detokenize, tokenize
from vllm.entrypoints.serve.tokenize.protocol import DetokenizeRequest, TokenizeRequest

from server.api.error_handlers import in_openai_form
from server.api.routes.generate import CLIENT_LEFT

router = APIRouter()


@router.post("/tokenize")
async def to_tokens(request: TokenizeRequest, raw_request: Request) -> Response:
    answer = await tokenize(request, raw_request)
    return in_openai_form(answer) if answer else Response(status_code=CLIENT_LEFT)


@router.post("/detokenize")
async def to_text(request: DetokenizeRequest, raw_request: Request) -> Response:
    answer = await detokenize(request, raw_request)
    return in_openai_form(answer) if answer else Response(status_code=CLIENT_LEFT)
