"""The prompt template with which the released weights were trained: the public Alpaca template,
unchanged.

The training code calls `alpaca_prompt`. The server uses `chat_template.jinja`, which gives the same
text.
"""

from pathlib import Path

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


def alpaca_prompt(instruction: str, input: str = "") -> str:
    """Format the prompt of an instruction.

    The answer directly follows the prompt, without a space.
    """
    template = WITH_INPUT if input else WITHOUT_INPUT
    return template.format(instruction=instruction, input=input)
