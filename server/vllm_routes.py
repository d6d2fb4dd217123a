"""vLLM's own routes that are served as they are: this table is the whole list.

They generate nothing. What is not in the table, or in a file of ours, does not exist here.
"""

from fastapi import APIRouter
from vllm.entrypoints.serve.tokenize.api_router import detokenize, tokenize

ROUTES = {
    "/tokenize": tokenize,
    "/detokenize": detokenize,
}

router = APIRouter()
for path, endpoint in ROUTES.items():
    router.add_api_route(path, endpoint, methods=["POST"])
