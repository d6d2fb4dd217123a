"""The tools in the rows, and phrasings of requests for them. Only the evaluation uses the tools in
UNSEEN and the held-out phrasings. No name of a file or thing is in both training and evaluation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Part = Literal["train", "seen", "unseen"]
# Further phrasings for training. A line has the name of a tool of SEEN, and requests.
MORE_REQUESTS = {
    name: tuple(requests)
    for name, *requests in (
        line.split("|")
        for line in Path(__file__).with_name("requests.txt").read_text().splitlines()
    )
}


@dataclass(frozen=True)
class DemoTool:
    name: str
    description: str
    # The kind of each argument: a key of `values.VALUES`, such as file or thing.
    arguments: tuple[str, ...]
    requests: tuple[str, ...]  # Phrasings that the training rows have, besides MORE_REQUESTS.
    held_out: tuple[str, ...]  # Phrasings that only the evaluation has.
    result: str
    answer: str
    labels: tuple[str, ...] = ()  # Names of the arguments. Default: those in `arguments`.

    @property
    def names(self) -> tuple[str, ...]:
        return self.labels or self.arguments

    @property
    def definition(self) -> dict[str, Any]:
        """The tool in OpenAI's form. An argument `number` is an integer, and all others are
        strings.
        """
        types = ["integer" if kind == "number" else "string" for kind in self.arguments]
        schema = {
            "type": "object",
            "properties": {
                name: {"type": kind} for name, kind in zip(self.names, types, strict=True)
            },
            "required": list(self.names),
        }
        function = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": function}


FILE_DONE = "Result saved as {new}"


def on_file(name: str, description: str, *requests: str) -> DemoTool:
    """Make a tool that turns a picture into a new picture. The last two phrasings are held out."""
    answer = "I have saved the result as {new}."
    return DemoTool(name, description, ("file",), requests[:-2], requests[-2:], FILE_DONE, answer)


def with_thing(name: str, description: str, *requests: str) -> DemoTool:
    """Make a tool whose arguments are a picture and the name of a thing."""
    answer = "The new picture is {new}."
    return DemoTool(
        name, description, ("file", "thing"), requests[:-2], requests[-2:], FILE_DONE, answer
    )


SEEN: tuple[DemoTool, ...] = (
    on_file(
        "Find Edges",
        "Draws the edges of a picture.",
        "Find the edges of {file}.",
        "Please draw the edges in {file}.",
        "Show me only the edges of {file}.",
        "I need the outlines that are in {file}.",
        "Could you trace the contours of {file}?",
    ),
    on_file(
        "Estimate Depth",
        "Estimates how far away the parts of a picture are.",
        "Estimate the depth of {file}.",
        "How far away are the parts of {file}? Make a map.",
        "Make a depth map of {file}.",
        "Compute the distances in {file}.",
        "Give me a map that says how deep {file} is.",
    ),
    on_file(
        "Make Gray",
        "Removes the colors of a picture.",
        "Make {file} gray.",
        "Remove the colors from {file}.",
        "Turn {file} into a gray picture.",
        "I want {file} without any color.",
        "Convert {file} to black and white.",
    ),
    on_file(
        "Blur",
        "Blurs a picture.",
        "Blur {file}.",
        "Make {file} less sharp.",
        "Please blur the picture {file}.",
        "Soften {file} so that no detail is visible.",
        "{file} should look out of focus.",
    ),
    on_file(
        "Segment",
        "Splits a picture into its parts.",
        "Segment {file}.",
        "Split {file} into its parts.",
        "Please find the segments of {file}.",
        "Separate the regions that {file} has.",
        "Which regions does {file} have? Mark them.",
    ),
    with_thing(
        "Detect",
        "Marks a thing in a picture.",
        "Where is the {thing} in {file}?",
        "Find the {thing} in {file}.",
        "Please mark the {thing} in {file}.",
        "Can you locate the {thing} that {file} shows?",
        "Draw a box around the {thing} in {file}.",
    ),
    with_thing(
        "Remove",
        "Removes a thing from a picture.",
        "Remove the {thing} from {file}.",
        "Take the {thing} out of {file}.",
        "Delete the {thing} in {file}.",
        "{file} would be better without the {thing}.",
        "Erase the {thing} that is in {file}.",
    ),
    with_thing(
        "Add",
        "Adds a thing to a picture.",
        "Add a {thing} to {file}.",
        "Put a {thing} into {file}.",
        "Please draw a {thing} into {file}.",
        "I would like to see a {thing} in {file}.",
        "{file} needs a {thing}.",
    ),
    DemoTool(
        "Replace",
        "Replaces a thing in a picture by another one.",
        ("file", "thing", "other"),
        (
            "Replace the {thing} in {file} by a {other}.",
            "Turn the {thing} of {file} into a {other}.",
            "Exchange the {thing} in {file} for a {other}.",
        ),
        (
            "Swap the {thing} that {file} shows with a {other}.",
            "In {file}, I want a {other} and not a {thing}.",
        ),
        FILE_DONE,
        "Here it is: {new}.",
    ),
    DemoTool(
        "Draw",
        "Draws a picture from a text.",
        ("thing",),
        ("Draw a {thing}.", "Make a picture of a {thing}.", "Please paint a {thing} for me."),
        ("I would love a drawing of a {thing}.", "Create an image that shows a {thing}."),
        "{new}",
        "Your picture is {new}.",
    ),
    DemoTool(
        "Describe",
        "Says what a picture shows.",
        ("file",),
        ("Describe {file}.", "What does {file} show?", "What is in the picture {file}?"),
        ("Tell me what can be seen in {file}.", "Give me a caption for {file}."),
        "a {thing}",
        "The picture shows a {thing}.",
    ),
    DemoTool(
        "Transcribe",
        "Writes down the words of a recording.",
        ("file",),
        ("Transcribe {file}.", "What is said in {file}?", "Write down the words of {file}."),
        ("I need the text that is spoken in {file}.", "Turn the recording {file} into text."),
        "a {thing}",
        'The recording says "a {thing}".',
    ),
)
UNSEEN: tuple[DemoTool, ...] = (
    on_file("Rotate", "Turns a picture upside down.", "Rotate {file}.", "Turn {file} upside down."),
    on_file(
        "Crop", "Cuts the middle out of a picture.", "Crop {file}.", "Cut the middle out of {file}."
    ),
    on_file("Enlarge", "Makes a picture larger.", "Enlarge {file}.", "Make {file} larger."),
    with_thing(
        "Recolor",
        "Changes the color of a thing in a picture.",
        "Recolor the {thing} in {file}.",
        "Change the color of the {thing} in {file}.",
    ),
    with_thing(
        "Count",
        "Counts things in a picture.",
        "Count each {thing} in {file}.",
        "How many times does a {thing} occur in {file}?",
    ),
    on_file(
        "Mirror",
        "Exchanges the left and the right side of a picture.",
        "Mirror {file}.",
        "Exchange left and right in {file}.",
    ),
    on_file(
        "Remove Rain",
        "Removes the drops of rain in a picture.",
        "Remove the rain from {file}.",
        "Make it look as if it did not rain in {file}.",
    ),
    DemoTool(
        "Weather",
        "Says how the weather is in a city.",
        ("city",),
        (),
        ("How is the weather in {city}?", "Does it rain in {city} now?"),
        "sunny",
        "It is sunny in {city}.",
    ),
    DemoTool(
        "Set Timer",
        "Rings after some minutes.",
        ("number",),
        (),
        ("Ring in {number} minutes.", "Set a timer for {number} minutes."),
        "set",
        "I will ring in {number} minutes.",
    ),
    DemoTool(
        "Send Message",
        "Sends a text to a person.",
        ("person", "text"),
        (),
        ('Tell {person} "{text}".', 'Send {person} the message "{text}".'),
        "sent",
        "I have told {person}.",
    ),
)


def phrasings(tool: DemoTool, part: Part) -> tuple[str, ...]:
    if part == "train":
        return tool.requests + MORE_REQUESTS.get(tool.name, ())
    return tool.held_out


def tools(part: Part) -> tuple[DemoTool, ...]:
    return UNSEEN if part == "unseen" else SEEN
