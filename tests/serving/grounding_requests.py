"""Good and hostile requests for grounding, which `tests.serving.grounding` sends to a server."""

import random
from itertools import product
from typing import Any

from PIL import Image

from tests.server.api.grounding.colors import COLORS, part, picture
from tests.serving.fields import NUMBERS, TEXTS, Json, deep
from tests.serving.malformed import damage, file_part
from tests.serving.seeds import bombs, seeds

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
DETECTIONS = "/v1/detections"
THRESHOLD = 0.1  # of the good requests; boxes of lower scores do not count
ANSWERS = (
    "A cat sits beside a penguin under a red umbrella, and there is no dog.",
    "Two owls and a guitar lie in the grass near a bus 🚌, an apple, a car and a camel.",
)
NOUNS = ("cat", "bus", "owl", "red apple", "penguin that swims", "old car", "umbrella", "x" * 90)
SIZES = [(1, 1), (1, 5000), (5000, 1), (20_000, 2), (3, 700), (3000, 3000)] * 3 + [(9000, 9000)]
OPTIONS: list[Any] = [
    *(*[True] * 9, False, None, 0, "yes", [], [True], {}, {"x": 1}, deep(60, "object")),
    *({"nouns": "model"}, {"nouns": "Parser"}, {"nouns": None}, {"nouns": ["model"]}),
    *({"threshold": value} for value in (0, 0, 0, 1, "0.5", True, [], *NUMBERS)),
]
FILES, BOMBS = seeds(), list(bombs().values())


def drawing(seed: int) -> Json:
    """A picture of colored rectangles."""
    dice = random.Random(seed)
    size = dice.randrange(200, 500), dice.randrange(200, 500)
    corners = [(dice.randrange(size[0] - 99), dice.randrange(size[1] - 99)) for _ in COLORS]
    boxes = [(x, y, x + dice.randrange(9, 99), y + dice.randrange(9, 99)) for x, y in corners]
    return part(picture(*zip(COLORS, boxes, strict=True), size=size))


def hostile_part(dice: random.Random) -> Json:
    name = dice.choice([*("jpg", "png", "gif", "webp", "mp4", "avi", "mkv") * 3, *FILES])
    exif = Image.Exif()
    exif[274] = dice.randrange(10)
    match dice.randrange(10):
        case 0 | 1 | 2:
            return file_part(name, damage(FILES[name], list(FILES.values()), dice))
        case 3 | 4:
            return part(Image.new("L", dice.choice(SIZES), 90), exif=exif)
        case 5:
            return file_part(*dice.choice(BOMBS))
        case 6 | 7:
            return file_part(name, FILES[name])
        case _:
            return drawing(dice.randrange(50))


def request(path: str, parts: list[Json], ground: Any, start: str = "", **fields: Any) -> Json:
    """A request to a route that generates text. An answer of a chat begins with `start`."""
    turns: list[Json] = [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]
    body: Json = {"temperature": 0, "imagebind": {"ground": ground}, **fields}
    if path == RESPONSES:
        return {"input": turns, "max_output_tokens": 4, "store": False, **body}
    if path == CHAT and start:
        turns.append({"role": "assistant", "content": start})
        body |= {"echo": True, "add_generation_prompt": False, "continue_final_message": True}
    return {"messages": turns, "max_tokens": 1 if start else 4, **body}


def hostile(dice: random.Random) -> tuple[str, Json]:
    path = dice.choice([CHAT, CHAT, RESPONSES, MESSAGES, DETECTIONS, DETECTIONS])
    parts = [hostile_part(dice) for _ in range(dice.choice([0, 1, 1, 1, 1, 1, 2, 5]))]
    if path == DETECTIONS:
        count = dice.choice([0, 1, 3, 64, 65, 400])
        queries: Any = [dice.choice([*NOUNS, *NOUNS, *TEXTS[:20], *parts]) for _ in range(count)]
        queries = dice.choice([*[queries] * 5, parts, None, "cat", {}, deep(60, "list")])
        threshold = dice.choice([None, 0, 0.1, 0.9, *NUMBERS, "high", []])
        value = dice.choice([*[parts] * 5, *parts, None, "text", {}])
        return path, {"input": value, "queries": queries, "threshold": threshold}
    text = ", a ".join(dice.choice(NOUNS) for _ in range(dice.choice([1, 5, 5, 70] * 5 + [400])))
    start = dice.choice(["", text, f"{text}\0\n\u202e🚌", "no ", "\ud800"])
    more = dice.choice(
        [{}, {"n": 3}, {"temperature": 2, "max_tokens": 16}] if path == CHAT else [{}]
    )
    body = request(path, parts, dice.choice(OPTIONS), start, stream=dice.random() < 0.4, **more)
    return path, body


def good_requests() -> list[tuple[str, Json]]:
    ground, streams = {"threshold": THRESHOLD}, (False, True)
    parts = [*map(drawing, range(4)), file_part("mp4", FILES["mp4"])]
    routes = [(CHAT, ANSWERS[0]), (CHAT, ANSWERS[1]), (RESPONSES, ""), (MESSAGES, "")]
    good = [
        (path, request(path, [each], ground, start, stream=stream))
        for (path, start), each, stream in product(routes, parts, streams)
    ]
    body = {"queries": list(NOUNS[:7]), "threshold": THRESHOLD}
    return good + [(DETECTIONS, body | {"input": each}) for each in parts]
