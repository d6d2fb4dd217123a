"""Further tools for training: variants of a table of actions, and invented actions.

The variants of an action differ in the tool's name, its description, and the names and the order of
its arguments, so that the model learns to read them in the prompt. No action is one of
`tools.UNSEEN`.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from model_ext.demo.dialogue.tools import FILE_DONE, DemoTool

# A line has a name, a description, and requests. In the requests, {kind} is an argument.
ACTIONS = Path(__file__).with_name("actions.txt").read_text().splitlines()
LABELS: dict[str, tuple[str, ...]] = {
    "file": ("image", "picture", "path", "image_path", "photo", "file", "input_image", "source"),
    "sound": ("audio", "recording", "sound", "path", "audio_file"),
    "clip": ("video", "clip", "path", "video_file"),
    "document": ("document", "path", "file_name", "doc"),
    "thing": ("object", "thing", "target", "item", "query", "what", "label"),
    "other": ("new_object", "other", "replacement", "by"),
    "text": ("text", "message", "words", "content"),
    "number": ("number", "value", "amount", "count"),
    "city": ("city", "place", "location", "town"),
    "person": ("person", "name", "contact", "who"),
    "color": ("color", "new_color", "paint"),
    "language": ("language", "target_language", "lang"),
    "day": ("day", "date", "weekday"),
    "style": ("style", "art_style", "look"),
}
RESULTS = {
    "file": (FILE_DONE, "{new}", "The new picture is {new}", "saved: {new}"),
    "": ("done", "ok", "The task is done", "success"),
}
ANSWERS = {
    "file": (
        "The result is {new}.",
        "Here is the new picture: {new}.",
        "I have saved it as {new}.",
    ),
    "": ("It is done.", "I have done it.", "Done."),
}
VARIANTS = 6  # Number of tools for each action.
INVENTED = 160  # Number of invented tools.
SYLLABLES = (
    *("ba", "be", "bo", "da", "de", "do", "fi", "fo", "ga", "go", "ka", "ke"),
    *("ki", "la", "le", "lo", "mi", "mo", "na", "ne", "no", "pa", "po", "ra"),
    *("ri", "ro", "sa", "so", "ta", "ti", "to", "va", "ve", "vi", "za", "zo"),
)
INVENTED_FORMS = (
    ("{0} Picture", "Applies the {1} effect to a picture.", "Apply the {1} effect to {{file}}.", "I want the {1} effect in {{file}}."),  # noqa: E501
    ("{0}", "{0}s a picture.", "{0} {{file}}.", "Please {1} {{file}}."),
    ("{0} Finder", "Finds the {1} of a thing.", "Find the {1} of a {{thing}}.", "Which {1} does a {{thing}} have?"),  # noqa: E501
    ("{0} Search", "Searches the database {0}.", "Search {0} for {{thing}}.", "What does {0} know about {{thing}}?"),  # noqa: E501
    ("Get {0}", "Returns the {1} of a city.", "What is the {1} of {{city}}?", "Get the {1} of {{city}}."),  # noqa: E501
    ("Set {0}", "Sets the {1} of the machine.", "Set the {1} to {{number}}.", "The {1} should be {{number}}."),  # noqa: E501
    ("{0} Message", "Sends a text to a person with {0}.", 'Tell {{person}} with {0} "{{text}}".', 'Use {0} to send {{person}} the words "{{text}}".'),  # noqa: E501
)  # fmt: skip
KIND = re.compile(r"\{(\w+)\}")


def more_tools() -> tuple[DemoTool, ...]:
    """Return the tools, which are the same in every call."""
    rng = random.Random("more tools")
    tools = [*variants(rng), *invented(rng)]
    return tuple({tool.name: tool for tool in tools}.values())


def variants(rng: random.Random) -> Iterator[DemoTool]:
    for line in ACTIONS:
        name, description, *requests = line.split("|")
        for _ in range(VARIANTS):
            yield tool(styled(name, rng), description, requests, rng)


def invented(rng: random.Random) -> Iterator[DemoTool]:
    """Yield tools whose name is no word, so that the model must copy it from the prompt."""
    for number in range(INVENTED):
        word = "".join(rng.sample(SYLLABLES, rng.randint(2, 3)))
        form = INVENTED_FORMS[number % len(INVENTED_FORMS)]
        name, description, *requests = (part.format(word.title(), word) for part in form)
        yield tool(name, description, requests, rng)


def tool(name: str, description: str, requests: list[str], rng: random.Random) -> DemoTool:
    kinds = list(dict.fromkeys(KIND.findall(requests[0])))
    rng.shuffle(kinds)
    labels = tuple(rng.choice(LABELS[kind]) for kind in kinds)
    output = "file" if "file" in kinds and "Says" not in description else ""
    result, answer = rng.choice(RESULTS[output]), rng.choice(ANSWERS[output])
    return DemoTool(name, description, tuple(kinds), tuple(requests), (), result, answer, labels)


def styled(name: str, rng: random.Random) -> str:
    """Write a name in one of the styles that tools have, e.g. Find Faces or find_faces."""
    words = name.split()
    styles = (
        name,
        "_".join(words).lower(),
        words[0].lower() + "".join(words[1:]),
        "".join(words),
        f"{name} Tool",
        f"{rng.choice(('My', 'Fast', 'Smart', 'Simple', 'Pro', 'Easy'))} {name}",
        f"{name} {rng.randint(2, 9)}",
    )
    return rng.choice(styles)
