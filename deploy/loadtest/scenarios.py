"""Scenarios: what one client asks. A function of the workshop gives one request, ready to send.

It does not know how requests are sent, how often, or how they are judged.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from deploy.loadtest.media import MIME, Media

CHAT = "/v1/chat/completions"
TOKENS = 16  # of an answer
QUESTIONS = (
    "What is this?",
    "Describe what you notice first.",
    "Name the main thing in one word.",
    "Is there anything unusual about it?",
)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request."""

    body: bytes
    path: str = CHAT
    content_type: str = "application/json"
    expected: frozenset[int] = frozenset({200})  # statuses of a right answer
    leaves_after: float | None = None  # seconds after which the client hangs up


@dataclass(slots=True)
class Workshop:
    """What requests are made from."""

    media: Media
    rng: Random
    model: str
    file_ids: list[str] = field(default_factory=list)  # uploaded before the test

    def chat(self, *parts: Json, text: str | None = None, **request: Any) -> Ask:
        content = [*parts, {"type": "text", "text": text or self.rng.choice(QUESTIONS)}]
        messages = [{"role": "user", "content": content}]
        return self.ask({"messages": messages, **request})

    def ask(self, request: Json) -> Ask:
        whole = {"model": self.model, "stream": True, "max_tokens": TOKENS, **request}
        return Ask(json.dumps(whole).encode())

    def part(self, kind: str, *, known: bool = False) -> Json:
        make = self.media.same if known else self.media.distinct
        return url_part(kind, make(kind, self.rng))


def url_part(kind: str, data: bytes) -> Json:
    url = f"data:{MIME[kind]};base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def text(shop: Workshop) -> Ask:
    return shop.chat()


def image(shop: Workshop) -> Ask:
    return shop.chat(shop.part("image"))


def audio(shop: Workshop) -> Ask:
    return shop.chat(shop.part("audio"))


def video(shop: Workshop) -> Ask:
    return shop.chat(shop.part("video"))


def point_cloud(shop: Workshop) -> Ask:
    return shop.chat(shop.part("point_cloud"))


def mixed(shop: Workshop) -> Ask:
    """Two kinds in one request, weighted."""
    first, second = shop.rng.sample(["image", "audio", "point_cloud"], 2)
    return shop.chat(shop.part(first) | {"weight": 0.7}, shop.part(second) | {"weight": 0.3})


def repeated(shop: Workshop) -> Ask:
    """One of few pictures: encoded once, then known by its content."""
    return shop.chat(shop.part("image", known=True))


def by_file_id(shop: Workshop) -> Ask:
    """A file that was uploaded before."""
    return shop.chat({"type": "file", "file": {"file_id": shop.rng.choice(shop.file_ids)}})


def conversation(shop: Workshop) -> Ask:
    """The sixth question about a picture, with all that was said before."""
    messages: list[Json] = [
        {
            "role": "user",
            "content": [shop.part("image", known=True), {"type": "text", "text": "Hi."}],
        }
    ]
    for turn in range(5):
        messages.append(
            {"role": "assistant", "content": f"I see something. That was answer {turn}."}
        )
        messages.append({"role": "user", "content": shop.rng.choice(QUESTIONS)})
    return shop.ask({"messages": messages})


def hostile(shop: Workshop) -> Ask:
    """What a server must refuse, or survive; it costs nobody else anything."""
    return shop.rng.choice(HOSTILE)(shop)


def refused(ask: Ask, *statuses: int) -> Ask:
    return Ask(ask.body, expected=frozenset(statuses))


def damaged(shop: Workshop) -> Ask:
    """Right at the start, noise from the middle on."""
    data = shop.media.same("image", shop.rng)
    noise = shop.rng.randbytes(len(data) // 2)
    return refused(shop.chat(url_part("image", data[:100] + noise)), 400)


def disguised(shop: Workshop) -> Ask:
    """A sound that calls itself a picture."""
    return refused(shop.chat(url_part("image", shop.media.distinct("audio", shop.rng))), 400, 415)


def broken_json(shop: Workshop) -> Ask:
    return refused(Ask(shop.chat().body[:-5]), 400)


def unknown_file(shop: Workshop) -> Ask:
    missing = {"type": "file", "file": {"file_id": f"file-{shop.rng.randbytes(16).hex()}"}}
    return refused(shop.chat(missing), 400, 404)


def greedy(shop: Workshop) -> Ask:
    return refused(shop.chat(n=10_000), 400)


def weightless(shop: Workshop) -> Ask:
    part = shop.part("image", known=True)
    return refused(shop.chat(part | {"weight": 1}, part | {"weight": -1}), 400)


def leaving(shop: Workshop) -> Ask:
    """Hangs up in the middle."""
    ask = shop.chat(shop.part("image"), max_tokens=512)
    return Ask(ask.body, leaves_after=shop.rng.random() * 0.3)


Scenario = Callable[[Workshop], Ask]
HOSTILE: tuple[Scenario, ...] = (
    *(damaged, disguised, broken_json, unknown_file, greedy, weightless, leaving),
)
SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        *(text, image, audio, video, point_cloud, mixed),
        *(repeated, by_file_id, conversation, hostile),
    )
}
# Shares of scenarios, by name; each scenario alone is a mix, too.
MIXES: dict[str, dict[str, float]] = {
    "all": {
        **{"text": 4, "image": 4, "audio": 1, "video": 0.5, "point_cloud": 1, "mixed": 1},
        **{"repeated": 3, "by_file_id": 1, "conversation": 2, "hostile": 0.5},
    },
    "media": {"image": 4, "audio": 1, "video": 0.5, "point_cloud": 1, "mixed": 1},  # all distinct
    **{name: {name: 1.0} for name in SCENARIOS},
}
