"""Convert the message of another library's exception to a message for clients: without paths, names
of classes and functions, and long copies of the client's values.
"""

import re

MAX_MESSAGE = 200  # Maximum number of characters of a message.
MAX_VALUE = 60  # Maximum number of characters of a client's value in a message.
UNKNOWN = "is not valid"

# The text of a pydantic error: a heading, the field's path, and the fault with notes in brackets.
PYDANTIC = re.compile(
    r"\A\d+ validation errors? for [^\n]*\n(?P<field>[^\n]*)\n +(?P<fault>[^\n]*)"
)
PYDANTIC_NOTES = re.compile(r" \[type=.*", re.DOTALL)
INTERNALS = re.compile(
    r"/\w+/\w+|site-packages|\b\w+(Error|Exception|Request|Params|Response)\b|\w\(|'_\w|"
    r"\bobject at 0x|0x[0-9a-f]{4}|<class |\[type=|input_value|Traceback|"
    r"\b(vllm|torch|pydantic|xgrammar|server|model_ext)\.\w+"
)
# The end of pydantic's message about a field that could also be an instance of a Python class.
INSTANCE = re.compile(r" or (an )?instance of \w+| or an object to extract fields from")
LONG_VALUES = (
    re.compile(rf"[^\s,;:]{{{MAX_VALUE + 1},}}"),
    re.compile(rf"(?P<quote>['\"`]).{{{MAX_VALUE},}}?(?P=quote)", re.DOTALL),
)


def client_text(message: str, param: str | None = None) -> str:
    """Return the message, or `... is not valid` if the message describes the server and not the
    request. `param` is the name of the request's field.
    """
    if dump := PYDANTIC.match(message):
        message = f"{dump['field']}: {PYDANTIC_NOTES.sub('', dump['fault'])}"
    # Text after ` (parameter=` is the client's value.
    message = INSTANCE.sub("", message.partition(" (parameter=")[0])
    for pattern in LONG_VALUES:
        message = pattern.sub(lambda value: value[0][:MAX_VALUE] + "...", message)
    if INTERNALS.search(message):
        return f"{param or 'the request'} {UNKNOWN}"
    return message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + "..."
