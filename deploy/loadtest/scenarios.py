"""Scenarios: functions that build one request of a client, from media and questions.

This module neither sends requests nor counts answers.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from deploy.loadtest.media import MIME, Media

CHAT = "/v1/chat/completions"
TOKENS = 16  # maximum tokens of an answer
QUESTIONS = (
    "What is this?",
    "Describe what you notice first.",
    "Name the main thing in one word.",
    "Is there anything unusual about it?",
)
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its body, and the HTTP status with which a correct server answers it."""

    body: bytes
    path: str = CHAT
    content_type: str = "application/json"
    expected: frozenset[int] = frozenset({200})  # HTTP statuses of correct answers.
    disconnect_after_s: float | None = None  # Seconds until the client disconnects.


@dataclass(slots=True)
class RequestFactory:
    """Builds requests from media, questions, and the ids of uploaded files."""

    media: Media
    rng: Random
    model: str
    file_ids: list[str] = field(default_factory=list)  # ids of files uploaded before the test

    def chat(self, *parts: Json, text: str | None = None, **request: Any) -> Request:
        content = [*parts, {"type": "text", "text": text or self.rng.choice(QUESTIONS)}]
        messages = [{"role": "user", "content": content}]
        return self.build({"messages": messages, **request})

    def build(self, request: Json) -> Request:
        whole = {"model": self.model, "stream": True, "max_tokens": TOKENS, **request}
        return Request(json.dumps(whole).encode())

    def part(self, kind: str, *, repeated: bool = False) -> Json:
        """Return a content part with a new file, or with one of a few repeated files."""
        choose = self.media.same if repeated else self.media.distinct
        return url_part(kind, choose(kind, self.rng))


def url_part(kind: str, data: bytes) -> Json:
    url = f"data:{MIME[kind]};base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def text(factory: RequestFactory) -> Request:
    return factory.chat()


def image(factory: RequestFactory) -> Request:
    return factory.chat(factory.part("image"))


def audio(factory: RequestFactory) -> Request:
    return factory.chat(factory.part("audio"))


def video(factory: RequestFactory) -> Request:
    return factory.chat(factory.part("video"))


def point_cloud(factory: RequestFactory) -> Request:
    return factory.chat(factory.part("point_cloud"))


def mixed(factory: RequestFactory) -> Request:
    """Build a request with two attachments of different modalities, which have weights."""
    first, second = factory.rng.sample(["image", "audio", "point_cloud"], 2)
    return factory.chat(
        factory.part(first) | {"weight": 0.7}, factory.part(second) | {"weight": 0.3}
    )


def repeated(factory: RequestFactory) -> Request:
    """Build a question about one of a few pictures, whose embeddings are soon in the server's
    result cache.
    """
    return factory.chat(factory.part("image", repeated=True))


def by_file_id(factory: RequestFactory) -> Request:
    """Build a question about a file that was uploaded before the test."""
    return factory.chat({"type": "file", "file": {"file_id": factory.rng.choice(factory.file_ids)}})


def conversation(factory: RequestFactory) -> Request:
    """Build the sixth question about a picture, with the earlier questions and answers."""
    messages: list[Json] = [
        {
            "role": "user",
            "content": [factory.part("image", repeated=True), {"type": "text", "text": "Hi."}],
        }
    ]
    for turn in range(5):
        messages.append(
            {"role": "assistant", "content": f"I see something. That was answer {turn}."}
        )
        messages.append({"role": "user", "content": factory.rng.choice(QUESTIONS)})
    return factory.build({"messages": messages})


def hostile(factory: RequestFactory) -> Request:
    """Build a request that a server must reject, or one whose client disconnects."""
    return factory.rng.choice(HOSTILE)(factory)


def rejected(request: Request, *statuses: int) -> Request:
    return Request(request.body, expected=frozenset(statuses))


def damaged(factory: RequestFactory) -> Request:
    """Build a request with a damaged picture: a correct beginning, then noise."""
    data = factory.media.same("image", factory.rng)
    noise = factory.rng.randbytes(len(data) // 2)
    return rejected(factory.chat(url_part("image", data[:100] + noise)), 400)


def disguised(factory: RequestFactory) -> Request:
    """Build a request that sends a sound in a content part for pictures."""
    return rejected(
        factory.chat(url_part("image", factory.media.distinct("audio", factory.rng))), 400, 415
    )


def broken_json(factory: RequestFactory) -> Request:
    return rejected(Request(factory.chat().body[:-5]), 400)


def unknown_file(factory: RequestFactory) -> Request:
    missing = {"type": "file", "file": {"file_id": f"file-{factory.rng.randbytes(16).hex()}"}}
    return rejected(factory.chat(missing), 400, 404)


def too_many_choices(factory: RequestFactory) -> Request:
    return rejected(factory.chat(n=10_000), 400)


def zero_weights(factory: RequestFactory) -> Request:
    """Build a request with two attachments whose weights sum to 0."""
    part = factory.part("image", repeated=True)
    return rejected(factory.chat(part | {"weight": 1}, part | {"weight": -1}), 400)


def disconnecting(factory: RequestFactory) -> Request:
    """Build a request whose client closes the connection within 0.3 s."""
    request = factory.chat(factory.part("image"), max_tokens=512)
    return Request(request.body, disconnect_after_s=factory.rng.random() * 0.3)


Scenario = Callable[[RequestFactory], Request]
HOSTILE: tuple[Scenario, ...] = (
    *(damaged, disguised, broken_json, unknown_file, too_many_choices, zero_weights, disconnecting),
)
SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        *(text, image, audio, video, point_cloud, mixed),
        *(repeated, by_file_id, conversation, hostile),
    )
}
# The mixes by name: the scenarios of each mix, with their shares of the requests. Each single
# scenario is a mix, too.
MIXES: dict[str, dict[str, float]] = {
    "all": {
        **{"text": 4, "image": 4, "audio": 1, "video": 0.5, "point_cloud": 1, "mixed": 1},
        **{"repeated": 3, "by_file_id": 1, "conversation": 2, "hostile": 0.5},
    },
    # In the mix `media`, every request sends files that the server has not seen.
    "media": {"image": 4, "audio": 1, "video": 0.5, "point_cloud": 1, "mixed": 1},
    **{name: {name: 1.0} for name in SCENARIOS},
}
