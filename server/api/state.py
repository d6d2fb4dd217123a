"""The typed state of the application: what `create_app` and vLLM's `init_app_state` store."""

from argparse import Namespace
from typing import Any, Protocol, cast

from fastapi import FastAPI, Request

from server.api.components import Components
from server.settings import Settings


class AppState(Protocol):
    settings: Settings
    args: Namespace  # vLLM's parsed flags
    components: Components
    # vLLM's, written by init_app_state:
    engine_client: Any
    openai_serving_chat: Any
    openai_serving_completion: Any
    openai_serving_responses: Any
    openai_serving_models: Any
    anthropic_serving_messages: Any


def state_of(source: Request | FastAPI) -> AppState:
    """The state of a request's application, or of the application itself."""
    app = source if isinstance(source, FastAPI) else source.app
    return cast(AppState, app.state)
