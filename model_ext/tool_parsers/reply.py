"""Read a model's reply piece by piece, and return its content and its tool calls as events.

A reply begins with the line `Thought: Do I need to use a tool? Yes` or `... No`. After each piece,
`Reply.feed` returns the events that no later text can change. All events together do not depend on
how the text is cut into pieces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model_ext.tool_parsers.arguments import parse_line, plain_names

STOP = "\nObservation:"  # the model stops here: the caller adds the result of the call
THOUGHT = "Thought: Do I need to use a tool? "
ACTION, INPUT, ANSWER = "Action:", "Action Input:", "AI:"
SPACES = " \t\r\v\f"  # white space within a line


@dataclass(frozen=True, slots=True)
class Content:
    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    text: str  # a part of the arguments of the last call


Event = Content | CallStart | CallArguments


class Reply:
    """A state machine. Each method without arguments is a state: it reads from `_text`, and returns
    True if the next state can run, or False if it needs more text.
    """

    def __init__(
        self, tools: Mapping[str, Any], parallel: bool = True, named: bool = False
    ) -> None:
        """`tools`: the schema of each tool, by name. `parallel`: whether a reply may have several
        calls.
        `named`: whether a grammar forces a call of one tool. Its JSON may have several lines.
        """
        self._tools, self._parallel, self._named = tools, parallel, named
        self._lower = {name.lower(): name for name in reversed(list(tools))}
        self._state: Callable[[], bool] = self._thought
        self._events: list[Event] = []
        self._tail = ""  # The end of the text, if it may be the beginning of STOP.
        self._text = ""  # Text that the state has not read.
        self._raw = ""  # The text so far, until it is clear that a call or an answer begins.
        self._names: list[str] = []  # The argument names of the last call's tool.
        self._calls = 0
        self._decided = self._stopped = False
        self.cut_inside = False  # whether the text was cut inside a call or the content

    def feed(self, piece: str) -> list[Event]:
        """Read the next piece of the text."""
        if self._stopped:
            return []
        text = self._tail + piece
        if STOP in text:
            self._stopped = True
            self._read(text.partition(STOP)[0])
            self._end(cut=False)
        else:
            held = next(n for n in range(len(STOP) - 1, -1, -1) if text.endswith(STOP[:n]))
            self._tail = text[len(text) - held :]
            self._read(text[: len(text) - held])
        return self._take_events()

    def finish(self, *, cut: bool = False) -> list[Event]:
        """Read the end of the text. `cut`: whether the maximum number of tokens ended the text.

        Plain arguments that were cut are not returned, because a client could run the tool with
        them.
        """
        if not self._stopped:
            self._stopped = True
            self._read(self._tail)
            self._end(cut=cut)
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _read(self, text: str) -> None:
        self._text += text
        if not self._decided:
            self._raw += text
        while self._state():
            pass

    def _end(self, *, cut: bool) -> None:
        self.cut_inside = cut
        if self._state in (self._thought, self._action):
            if self._calls:
                self.cut_inside = False
            elif self._text.strip().lower() != f"{THOUGHT}no".lower():
                self._emit(Content(self._raw))
        elif self._state in (self._arguments, self._plain):
            if not cut:
                self._emit(CallArguments(parse_line(self._text, self._names)))
        elif self._state == self._answer:
            self._emit(Content(self._text.strip().removeprefix(ANSWER)))
        elif self._state == self._rest:
            self.cut_inside = False

    def _emit(self, event: Event) -> None:
        if isinstance(event, CallStart) or event.text:
            self._events.append(event)

    def _go(self, state: Callable[[], bool], text: str) -> bool:
        self._state, self._text = state, text
        return True

    def _no_block(self) -> bool:
        """Handle text that is not a block of the form. After a call, it is dropped. Otherwise, the
        whole reply is content.
        """
        self._decided = True
        return self._go(self._rest, "") if self._calls else self._go(self._content, self._raw)

    def _thought(self) -> bool:
        text = self._text.lstrip()
        if not text.startswith(THOUGHT):
            return not THOUGHT.startswith(text) and self._no_block()
        line, newline, rest = text[len(THOUGHT) :].partition("\n")
        word = line.strip().lower()
        if not newline:
            return not ("yes".startswith(word) or "no".startswith(word)) and self._no_block()
        if word == "yes":
            return self._go(self._action, rest)
        self._decided = True
        return self._go(self._answer, rest) if word == "no" else self._no_block()

    def _action(self) -> bool:
        text = self._text.lstrip()
        if not text.startswith(ACTION):
            return not ACTION.startswith(text) and self._no_block()
        line, newline, rest = text[len(ACTION) :].partition("\n")
        name = line.strip()
        if not newline:
            part = line.lstrip().lower()
            possible = name.lower() in self._lower or any(
                each.startswith(part) for each in self._lower
            )
            return not possible and self._no_block()
        if name not in self._tools:
            name = self._lower.get(name.lower(), "")
        rest = rest.lstrip()
        if not name or not rest.startswith(INPUT):
            return not (name and INPUT.startswith(rest)) and self._no_block()
        self._decided = True
        self._calls += 1
        self._names = plain_names(self._tools[name])
        self._emit(CallStart(name))
        return self._go(self._arguments, rest[len(INPUT) :])

    def _arguments(self) -> bool:
        text = self._text.lstrip(SPACES)
        if not text:
            return False
        return self._go(self._json if text.startswith("{") else self._plain, text)

    def _json(self) -> bool:
        line, newline, rest = self._text.partition("\n")
        if self._named:
            line, newline = self._text, ""
        text = line.rstrip()
        self._emit(CallArguments(text))
        if newline:
            return self._end_call(rest)
        self._text = line[len(text) :]
        return False

    def _plain(self) -> bool:
        line, newline, rest = self._text.partition("\n")
        if not newline:
            return False
        self._emit(CallArguments(parse_line(line, self._names)))
        return self._end_call(rest)

    def _end_call(self, rest: str) -> bool:
        return self._go(self._thought if self._parallel else self._rest, rest)

    def _answer(self) -> bool:
        text = self._text.lstrip()
        # Wait for more text, also if the mark is complete, because a space may follow the mark.
        if ANSWER.startswith(text):
            return False
        if text.startswith(ANSWER):
            text = text[len(ANSWER) :].removeprefix(" ")
        return self._go(self._content, text)

    def _content(self) -> bool:
        self._emit(Content(self._text))
        self._text = ""
        return False

    def _rest(self) -> bool:
        self._text = ""
        return False
