"""The typed state of the application. `create_app` and vLLM's `init_app_state` write the values."""

import asyncio
from argparse import Namespace
from typing import Any, Protocol, cast

from fastapi import FastAPI, Request

from server.api.batches.runner import BatchRunner
from server.api.components import Components
from server.api.grammar.checker import GrammarChecker
from server.api.limits.texts import PromptLimits
from server.api.middleware.rate_limit import KeyUsage
from server.fairness.share import FairShare
from server.fairness.turns import Turns
from server.settings import Settings


class AppState(Protocol):
    settings: Settings
    # `vectorize_places` limits the inputs of /vectorize that are embedded at the same time.
    vectorize_places: asyncio.Semaphore

    # Count the running requests, and the bytes of their bodies. All applications of this process
    # share these objects.
    running: FairShare
    held_bytes: FairShare
    reading: Turns  # decides which large document is read next
    turns: Turns  # decides whose request goes on; all applications of this process share it
    batches: BatchRunner
    key_usage: dict[str, KeyUsage]  # the requests of each API key, if they are limited

    args: Namespace  # vLLM's parsed flags
    components: Components
    prompt_limits: PromptLimits | None  # the size of the language model's context
    # None if structured outputs use another backend than xgrammar.
    grammars: GrammarChecker | None
    # vLLM's `init_app_state` writes the following values.
    engine_client: Any
    openai_serving_chat: Any
    openai_serving_completion: Any
    openai_serving_responses: Any
    openai_serving_models: Any
    anthropic_serving_messages: Any


def state_of(source: Request | FastAPI) -> AppState:
    """Return the state of the application. `source`: the application, or one of its requests."""
    app = source if isinstance(source, FastAPI) else source.app
    return cast(AppState, app.state)
