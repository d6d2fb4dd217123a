"""Let the clients of the server take turns with their requests.

The API process runs one event loop. A request takes milliseconds of it when it starts, and again
when its body is complete and is parsed. If one client has many requests at these points, another
client's request waits for at most two of them, not for all of them.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.context import client
from server.fairness.turns import Turns


class TurnMiddleware:
    """Delay a request until its client's turn: at its start, and when its body is complete."""

    def __init__(self, app: ASGIApp, turns: Turns) -> None:
        """`turns`: the turns of all requests. All applications of the process share this object."""
        self.app = app
        self.turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        caller, complete = client(), False

        async def in_turn() -> Message:
            nonlocal complete
            message = await receive()
            if not complete and not message.get("more_body", False):
                complete = True
                await self.turns.step(caller)
            return message

        await self.turns.step(caller)
        await self.app(scope, in_turn, send)
