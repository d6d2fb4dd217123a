import base64
from pathlib import Path
from typing import Any

import pytest

from model_ext.eval.errors import DataError
from model_ext.eval.item import Item
from model_ext.eval.tasks.table import TASKS
from server.cli.eval.parts import request_body


def parts(**fields: Any) -> list[dict[str, Any]]:
    item = Item(id="7", task="GQA", question="Q?", answers=["a"], **fields)
    body = request_body(item, TASKS["GQA"], "m", "greedy", text_only=False)
    content: list[dict[str, Any]] = body["messages"][0]["content"]
    assert content[-1] == {"type": "text", "text": "Q?"}
    return content[:-1]


def test_depth_is_a_file_with_its_modality(tmp_path: Path) -> None:
    path = tmp_path / "map.npy"
    path.write_bytes(b"numbers")
    data = base64.b64encode(b"numbers").decode()
    assert parts(depth=str(path)) == [
        {
            "type": "file",
            "file": {"filename": "depth.npy", "file_data": data},
            "modality": "depth",
        }
    ]


def test_weights_belong_to_modalities(tmp_path: Path) -> None:
    for name in ("a.png", "b.wav"):
        (tmp_path / name).write_bytes(b"x")
    media = {"image": str(tmp_path / "a.png"), "audio": str(tmp_path / "b.wav")}
    image, audio = parts(**media, weights={"audio": 0.2})
    assert "weight" not in image
    assert audio["weight"] == 0.2
    assert audio["audio_url"]["url"].startswith("data:audio/")


def test_an_input_is_a_context() -> None:
    data = "data:image/png;base64,eA=="
    context = {"type": "context", "text": "The sign says exit."}
    assert parts(input=context["text"]) == [context]
    assert parts(image=data, input=context["text"])[1:] == [context]


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png: cannot be read"):
        parts(image=str(tmp_path / "absent.png"))


def test_earlier_turns_are_messages_with_their_media() -> None:
    data = "data:image/png;base64,eA=="
    earlier = [{"question": "What?", "answer": "A cat.", "image": data}]
    fields: dict[str, Any] = {"id": "7", "task": "GQA", "question": "And now?", "answers": ["a"]}
    item = Item.model_validate({**fields, "earlier": earlier})
    body = request_body(item, TASKS["GQA"], "m", "greedy", text_only=False)
    first, answer, last = body["messages"]
    assert first["content"][0] == {"type": "image_url", "image_url": {"url": data}}
    assert first["content"][1]["text"] == "What?"
    assert answer == {"role": "assistant", "content": "A cat."}
    assert last["content"] == [{"type": "text", "text": "And now?"}]
    blind = request_body(item, TASKS["GQA"], "m", "greedy", text_only=True)
    assert [len(message["content"]) for message in blind["messages"][::2]] == [1, 1]
