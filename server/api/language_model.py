"""The part of the application that needs a language model: its routes, and vLLM's handlers.

`app.py` imports this module only if the server has a language model, because it imports vLLM.
"""

from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.routing import Mount
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.utils.server_utils import lifespan as lifespan
from vllm.entrypoints.serve.instrumentator.metrics import attach_router as attach_metrics
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from server.api.body import check_body
from server.api.grammar.constraint import open_checker
from server.api.limits.texts import prompt_limits
from server.api.routes.generation import generate, responses_and_messages, tokenize
from server.api.state import state_of
from server.settings import Settings


def import_parsers(args: Namespace) -> None:
    """Import the plugins of vLLM's --tool-parser-plugin and --reasoning-parser-plugin."""
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)


def add_routes(app: FastAPI) -> None:
    app.include_router(generate.router)
    app.include_router(responses_and_messages.router)
    app.include_router(tokenize.router, dependencies=[Depends(check_body)])


def add_metrics(app: FastAPI) -> None:
    """Add /metrics with vLLM's metrics and those of this server."""
    attach_metrics(app)
    # Remove vLLM's mount of /metrics, which also responds to other methods and to paths such as
    # /metrics-x. vLLM also adds /metrics as a route, which stays.
    app.router.routes[:] = [route for route in app.routes if not isinstance(route, Mount)]


@asynccontextmanager
async def connected(
    app: FastAPI, engine: EngineClient, settings: Settings, args: Namespace
) -> AsyncIterator[None]:
    """Write vLLM's request handlers and the checker of grammars into the application's state."""
    async with open_checker(engine, settings) as grammars:
        state_of(app).grammars = grammars
        state_of(app).prompt_limits = prompt_limits(engine)
        await init_app_state(engine, app.state, args, await engine.get_supported_tasks())
        yield
