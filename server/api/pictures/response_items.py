"""Pictures in the answers of /v1/responses: the tool `image_generation`.

If a request has this tool, the server draws one picture. Its item follows the other items of the
output. The language model does not get the tool.
"""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast
from uuid import uuid4

from fastapi.responses import JSONResponse, Response, StreamingResponse

from server.api.pictures.chat_images import last_user_text
from server.api.pictures.drawing import Drawing
from server.conditioning.options import ImageBindOptions
from server.conditioning.picture_options import PictureOptions
from server.errors import BadRequest

Json = dict[str, Any]

TOOL = "image_generation"
# Events that end a response. Their data contains the whole response.
LAST_EVENTS = tuple(f"event: response.{name}\n" for name in ("completed", "incomplete"))


def take_tool(document: Json) -> Json | None:
    """Remove the tool `image_generation` from a request. Returns the tool, or None.

    Raises BadRequest: when the request has the tool more than once.
    """
    tools = document.get("tools")
    if not isinstance(tools, list):
        return None
    own = [tool for tool in tools if is_tool(tool)]
    if not own:
        return None
    if len(own) > 1:
        raise BadRequest(f"tools has {TOOL} more than once", param="tools")
    document["tools"] = [tool for tool in tools if not is_tool(tool)]
    if not document["tools"]:
        del document["tools"]
    if is_tool(document.get("tool_choice")) or not document.get("tools"):
        document.pop("tool_choice", None)
    return dict(own[0])


def with_size(options: ImageBindOptions, tool: Json | None) -> ImageBindOptions:
    """Add the tool's `size` to the options, unless the request has the option `picture`."""
    size = None if tool is None else tool.get("size")
    if options.picture is not None or not isinstance(size, str):
        return options
    return options.model_copy(update={"picture": PictureOptions(size=size)})


def is_tool(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == TOOL


def input_text(items: Any) -> str:
    """Return the text of the last user message of `input`."""
    return items if isinstance(items, str) else last_user_text(items)


async def item_of(drawing: Drawing) -> Json:
    """Return the output item of the picture. Its status is "failed" if the picture could not be
    drawn.
    """
    pictures, error = await drawing.result()
    return {
        "type": "image_generation_call",
        "id": f"ig_{uuid4().hex}",
        "status": "failed" if error else "completed",
        "result": base64.b64encode(pictures[0]).decode() if pictures else None,
    }


async def with_item(response: Response, drawing: Drawing) -> Response:
    """Add the picture's item to a response. An error response is returned unchanged."""
    if isinstance(response, StreamingResponse):
        events = cast(AsyncGenerator[str], response.body_iterator)
        response.body_iterator = stream_item(events, drawing)
        return response
    if response.status_code != 200:
        return response
    answer = json.loads(bytes(response.body))
    answer["output"].append(await item_of(drawing))
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return JSONResponse(answer, headers=headers)


async def stream_item(events: AsyncGenerator[str], drawing: Drawing) -> AsyncGenerator[str]:
    """Begin the drawing. Yield the stream's events, and the picture's item before the last event.

    Closing this generator closes `events` and cancels the drawing.
    """
    drawing.begin()
    try:
        async with aclosing(events):
            async for event in events:
                if event.startswith(LAST_EVENTS):
                    for each in await last_events(event, drawing):
                        yield each
                else:
                    yield event
    finally:
        await drawing.close()


async def last_events(event: str, drawing: Drawing) -> list[str]:
    """Return the events of the picture's item, and the stream's last event with this item added."""
    name, _, data = event.partition("\ndata: ")
    last = json.loads(data)
    item = await item_of(drawing)
    position, number = len(last["response"]["output"]), last["sequence_number"]
    last["response"]["output"].append(item)
    last["sequence_number"] = number + 2
    begun = {**item, "status": "in_progress", "result": None}
    place = {"output_index": position}
    return [
        written("response.output_item.added", number, **place, item=begun),
        written("response.output_item.done", number + 1, **place, item=item),
        f"{name}\ndata: {json.dumps(last)}\n\n",
    ]


def written(name: str, number: int, **fields: Any) -> str:
    data = {"type": name, "sequence_number": number, **fields}
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
