"""`loads` returns the same values and rejects the same texts as `json.loads`."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api import large_json
from server.api.large_json import LONG, loads, long_strings

TEXTS = st.text(
    st.sampled_from('ab"\\/\n\u00e9\u20ac\U0001f600\ud83d\ude00,:{}[]0-.e'), max_size=30
)
SCALARS = st.none() | st.integers() | st.floats(allow_nan=False) | TEXTS
DOCUMENTS = st.recursive(
    SCALARS,
    lambda values: st.lists(values, max_size=4) | st.dictionaries(TEXTS, values, max_size=4),
    max_leaves=6,
)


@pytest.fixture(autouse=True, scope="module")
def _short() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_json, "LONG", 8)
        yield


def outcome(function: Any, body: bytes) -> Any:
    try:
        return repr(function(body))
    except ValueError:
        return ValueError


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_documents(document: Any, escaped: bool, encoding: str) -> None:
    text = json.dumps(document, ensure_ascii=escaped)
    body = text.encode(encoding, "surrogatepass")
    assert repr(loads(body)) == repr(json.loads(body))


@settings(max_examples=60, deadline=None)
@given(DOCUMENTS, st.data())
def test_damaged_documents(document: Any, data: st.DataObject) -> None:
    body = bytearray(json.dumps(document).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body)))
        body[position : position + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"5", b"-", b"\xff", b"\n", b"{", b","])
        )
    assert outcome(loads, bytes(body)) == outcome(json.loads, bytes(body))


@pytest.mark.parametrize("text", ["x" * 99, "\u20ac" * 99, "\\" * 99, '"' * 99, "\U0001f600" * 99])
def test_long_strings(text: str) -> None:
    for escaped in (True, False):
        body = json.dumps({"a": text, text: [1.5, text]}, ensure_ascii=escaped).encode()
        assert loads(body) == {"a": text, text: [1.5, text]}


def test_strings_are_decoded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, parse = [], json.loads

    def recorded(text: Any, **options: Any) -> Any:
        sizes.append(len(text))
        return parse(text, **options)

    monkeypatch.setattr(large_json, "LONG", LONG)
    monkeypatch.setattr(large_json.json, "loads", recorded)
    text = "a line of words\n\u20ac" * (LONG // 4)
    body = json.dumps({"a": [text, 0.5]}, ensure_ascii=False).encode()
    assert loads(body) == {"a": [text, 0.5]}
    assert max(sizes) < LONG + 100
    assert len(list(long_strings(body))) == 1
