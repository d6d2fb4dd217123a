"""The plugin for vLLM's flag --tool-call-parser. It parses tool calls in the form of GPT4Tools.

vLLM creates one parser per request, or one per choice of a stream.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.entrypoints.generate.base.protocol import (
    DeltaFunctionCall,
    DeltaMessage,
    DeltaToolCall,
    ExtractedToolCallInformation,
    FunctionCall,
    ToolCall,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.renderers.chat_utils import make_tool_call_id
from vllm.sampling_params import StructuredOutputsParams
from vllm.tool_parsers.abstract_tool_parser import ToolParser

from model_ext.tool_parsers.reply import (
    ACTION,
    INPUT,
    STOP,
    THOUGHT,
    CallStart,
    Content,
    Event,
    Reply,
)

# The server appends this character to a text that the maximum number of tokens cut off. vLLM does
# not pass a parser the reason why a text ended. No tokenizer produces this character, which is half
# of a surrogate pair.
CUT = "\udc00"
# The parser sets this key in `vllm_xargs` of requests whose texts need the character CUT. A value
# that a client sends has no effect.
MARK_CUTS = "bindserve_mark_cuts"


class FromParser(str):
    """The value of MARK_CUTS."""

    __slots__ = ()


Request = Any  # vLLM's class of a chat completion or Responses request


class Gpt4ToolsParser(ToolParser):
    supports_required_and_named = False  # Replies have one form for every tool_choice.
    engine_based_streaming = True  # Makes vLLM call `finish_streaming` when a stream ends.

    def __init__(self, tokenizer: Any, tools: Any = None) -> None:
        super().__init__(tokenizer, tools)
        self._reply: Reply | None = None  # The reply that is being streamed.
        self._index = -1  # The number of the last call in this reply.
        self._cut = False

    def adjust_request(self, request: Request) -> Request:
        """Stop generation where a tool's result would follow. If the request requires a call, force
        the reply to begin with one.
        """
        if not may_call(request):
            return request
        stops = [request.stop] if isinstance(request.stop, str) else list(request.stop or [])
        request.stop = [*stops, STOP]
        request.vllm_xargs = {**(request.vllm_xargs or {}), MARK_CUTS: FromParser(1)}
        if (tag := forced_beginning(request)) is not None:
            request.structured_outputs = StructuredOutputsParams(structural_tag=json.dumps(tag))
            if isinstance(request, ResponsesRequest):
                request.text = None
            else:
                request.response_format = None
        return request

    def extract_tool_calls(
        self, model_output: str, request: ChatCompletionRequest
    ) -> ExtractedToolCallInformation:
        if not may_call(request):
            content = model_output.removesuffix(CUT)
            return ExtractedToolCallInformation(tools_called=False, tool_calls=[], content=content)
        reply, text, cut = reply_of(request), *split_cut(model_output)
        answer, calls = whole([*reply.feed(text), *reply.finish(cut=cut)])
        return ExtractedToolCallInformation(
            tools_called=bool(calls), tool_calls=calls, content=answer
        )

    def extract_tool_calls_streaming(
        self,
        previous_text: str,  # noqa: ARG002
        current_text: str,  # noqa: ARG002
        delta_text: str,
        previous_token_ids: Sequence[int],  # noqa: ARG002
        current_token_ids: Sequence[int],  # noqa: ARG002
        delta_token_ids: Sequence[int],  # noqa: ARG002
        request: ChatCompletionRequest,
    ) -> DeltaMessage | None:
        text, cut = split_cut(delta_text)
        if not may_call(request):
            return DeltaMessage(content=text) if text else None
        if self._reply is None:
            self._reply = reply_of(request)
        self._cut = self._cut or cut
        return self._delta(self._reply.feed(text))

    def finish_streaming(self) -> DeltaMessage | None:
        return None if self._reply is None else self._delta(self._reply.finish(cut=self._cut))

    def _delta(self, events: Iterable[Event]) -> DeltaMessage | None:
        """Make one message of all events. Joins the pieces of each call's arguments."""
        content, calls = "", list[DeltaToolCall]()
        for event in events:
            if isinstance(event, Content):
                content += event.text
            elif isinstance(event, CallStart):
                self._index += 1
                function = DeltaFunctionCall(name=event.name, arguments="")
                calls.append(
                    DeltaToolCall(
                        id=make_tool_call_id(),
                        type="function",
                        index=self._index,
                        function=function,
                    )
                )
            elif calls and calls[-1].function:
                calls[-1].function.arguments = (calls[-1].function.arguments or "") + event.text
            else:
                function = DeltaFunctionCall(arguments=event.text)
                calls.append(DeltaToolCall(index=self._index, function=function))
        if not content and not calls:
            return None
        return DeltaMessage(content=content or None, tool_calls=calls)


def may_call(request: Request) -> bool:
    """Whether the request allows calls. Otherwise the reply is plain content."""
    return bool(request.tools) and request.tool_choice != "none"


def reply_of(request: Request) -> Reply:
    named = chosen_name(request.tool_choice) is not None
    return Reply(dict(schemas(request)), request.parallel_tool_calls is not False, named)


def schemas(request: Request) -> Iterable[tuple[str, Any]]:
    """Yield the name and the schema of each tool."""
    for tool in request.tools or ():
        function: Any = getattr(tool, "function", tool)
        if isinstance(name := getattr(function, "name", None), str):
            yield name, getattr(function, "parameters", None)


def cut_inside(text: str, request: Request) -> bool:
    """Whether a reply ends inside a call or its content. `text`: a reply that the maximum number of
    tokens cut off.
    """
    reply = reply_of(request)
    reply.feed(text)
    reply.finish(cut=True)
    return reply.cut_inside


def split_cut(text: str) -> tuple[str, bool]:
    return text.removesuffix(CUT), text.endswith(CUT)


def whole(events: Iterable[Event]) -> tuple[str | None, list[ToolCall]]:
    """Return the content (or None) and the calls of a complete reply."""
    content, calls = None, list[ToolCall]()
    for event in events:
        if isinstance(event, Content):
            content = (content or "") + event.text
        elif isinstance(event, CallStart):
            calls.append(ToolCall(function=FunctionCall(name=event.name, arguments="")))
        else:
            calls[-1].function.arguments += event.text
    return content, calls


def forced_beginning(request: Request) -> dict[str, Any] | None:
    """Return the structural tag (vLLM's grammar) that forces a call. None if the request does not
    require a call.
    """
    name = chosen_name(request.tool_choice)
    if name is None and request.tool_choice != "required":
        return None
    tools = dict(schemas(request))
    rest: dict[str, Any] = {"type": "any_text"}
    if name is not None:
        rest = {"type": "json_schema", "json_schema": tools.get(name) or {"type": "object"}}
    names = [
        {"type": "const_string", "value": each} for each in (tools if name is None else [name])
    ]
    elements = [
        {"type": "const_string", "value": f"{THOUGHT}Yes\n{ACTION} "},
        {"type": "or", "elements": names},
        {"type": "const_string", "value": f"\n{INPUT} "},
        rest,
    ]
    return {"type": "structural_tag", "format": {"type": "sequence", "elements": elements}}


def chosen_name(choice: Any) -> str | None:
    """Return the name of the tool in a `tool_choice` of any API, or None."""
    name = getattr(getattr(choice, "function", choice), "name", None)
    return name if isinstance(name, str) else None
