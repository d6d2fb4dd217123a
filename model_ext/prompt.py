"""The prompt template with which the released weights were trained: the public Alpaca template,
unchanged.

The training code calls `alpaca_prompt` and `chat_prompt`. The server uses `chat_template.jinja`,
which gives the same texts.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = Path(__file__).with_name("chat_template.jinja").read_text()

WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
# All characters at which `str.splitlines` ends a line, so that every program sees the same lines.
LINE_BREAK = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff]")  # control characters that end no line
MARK = re.compile("#{3,}")


def alpaca_prompt(instruction: str, input: str = "") -> str:
    """Format the prompt of an instruction.

    The answer directly follows the prompt, without a space.
    """
    template = WITH_INPUT if input else WITHOUT_INPUT
    return template.format(instruction=instruction, input=input)


def flatten(text: str) -> str:
    """Remove everything from a text that could end the Input slot, e.g. from a text that was
    recognized in a picture.

    Keeps lines, replaces other control characters by spaces, shortens the marks of the template
    (`###`) to one character, and removes white space at both ends.
    """
    return MARK.sub("#", CONTROL.sub(" ", LINE_BREAK.sub("\n", text))).strip()


def without_marks(content: Any) -> Any:
    """Shorten the marks in a text, or in a list of parts with texts."""
    if isinstance(content, str):
        return MARK.sub("#", content)
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            part["text"] = MARK.sub("#", part["text"])
    return content


def chat_prompt(
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    contexts: Sequence[str] = (),
    generate: bool = True,
) -> str:
    """Render the chat template without BOS, as a server renders OpenAI's messages and tools.

    `contexts`: the texts of the Input slots of the last user turns. `generate`: whether the prompt
    ends with the mark of the next response.
    Raises jinja2.TemplateError: when the template rejects the messages.
    """
    # Imported here, because a server does not call this function.
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        [list(messages)],
        tools=list(tools) or None,
        chat_template=CHAT_TEMPLATE,
        add_generation_prompt=generate,
        contexts=list(contexts),
        bos_token="",
    )
    text: str = rendered[0]
    return text
