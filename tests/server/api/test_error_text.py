"""The error messages of other libraries are rewritten before clients see them."""

import pytest

from server.api.error_text import MAX_MESSAGE, UNKNOWN, client_text

DUMP = (
    "2 validation errors for ResponsesRequest\ntext.format\n  Input should be a valid dictionary "
    "[type=dict_type, input_value='xxx', input_type=str]\n    For further information visit "
    "https://errors.pydantic.dev/2/v/dict_type\nother\n  Field required [type=missing]"
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("max_tokens must be at least 1, got 0.", None),
        ("the path /v1 does not exist", None),
        ("a temperature of 1.5 and a top_p of 0.5 e.g. are good", None),
        (DUMP, "text.format: Input should be a valid dictionary"),
        ("n must be at most 16 (parameter=n, value=99)", "n must be at most 16"),
        (
            "safe_apply_chat_template() got multiple values for argument 'tools'",
            f"the request {UNKNOWN}",
        ),
        ("cannot open /usr/lib/python3/x.py", f"the request {UNKNOWN}"),
        ("SamplingParams has no field x", f"the request {UNKNOWN}"),
        (
            "You must use one kind of constraint: {'_backend': None, 'json': None}",
            f"the request {UNKNOWN}",
        ),
        (
            "Input should be a valid dictionary or instance of FunctionDefinition",
            "Input should be a valid dictionary",
        ),
        ("ValidationError: bad", f"the request {UNKNOWN}"),
        ("<vllm.thing object at 0x7f00>", f"the request {UNKNOWN}"),
        ("vllm.v1.engine.core raised", f"the request {UNKNOWN}"),
        ("got " + "9" * 4000, "got " + "9" * 60 + "..."),
        (f"role {'a b ' * 1000!r} is unknown", "role 'a b"),
    ],
)
def test_messages(message: str, text: str | None) -> None:
    if text is None:
        assert client_text(message) == message
    else:
        assert client_text(message).startswith(text)
    assert len(client_text(message)) <= MAX_MESSAGE + 3


def test_the_fields_name_replaces_a_message_about_the_server() -> None:
    assert client_text("/usr/lib/vllm/x.py:12: bad grammar", "json") == "json is not valid"


def test_a_long_message_is_cut() -> None:
    assert client_text("word " * 1000) == ("word " * 1000)[:MAX_MESSAGE] + "..."
