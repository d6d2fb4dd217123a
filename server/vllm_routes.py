"""vLLM's own routes that are served as they are: this table is the whole list.

They generate on the text-only embedding, as every request does that attaches nothing: the engine
client sees to that. What is not in the table does not exist here.
"""

from fastapi import APIRouter
from vllm.entrypoints.anthropic.api_router import count_tokens, create_messages
from vllm.entrypoints.openai.responses.api_router import create_responses
from vllm.entrypoints.serve.tokenize.api_router import detokenize, tokenize

ROUTES = {
    "/v1/responses": create_responses,
    "/v1/messages": create_messages,
    "/v1/messages/count_tokens": count_tokens,
    "/tokenize": tokenize,
    "/detokenize": detokenize,
}

router = APIRouter()
for path, endpoint in ROUTES.items():
    router.add_api_route(path, endpoint, methods=["POST"])
