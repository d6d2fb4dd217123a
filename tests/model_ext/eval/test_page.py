import base64
from pathlib import Path

import pytest

from model_ext.eval import page as module
from model_ext.eval.item import Item
from model_ext.eval.page import page
from model_ext.eval.tasks.table import TASKS

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = '<script src="http://x/y.js">&"\''


def render(*items: Item, answer: str = "no", title: str = "run") -> str:
    answers = {"GQA": {item.id: answer for item in items}}
    return page(title, [TASKS["GQA"]], {"GQA": items}, answers)


def item(key: str = "0", **fields: str) -> Item:
    return Item(id=key, task="GQA", question="Q?", answers=["yes"], **fields)


def test_escapes_every_text() -> None:
    hostile = item(HOSTILE, image=HOSTILE).model_copy(
        update={"question": HOSTILE, "answers": [HOSTILE + "z"], "audio": f"a/{HOSTILE}"}
    )
    text = render(hostile, answer=HOSTILE, title=HOSTILE)
    assert "<script" not in text
    assert text.count("&lt;script") == 6


def test_shows_media_as_data_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_bytes(PNG)
    (tmp_path / "b.png").write_text("<svg onload='alert(1)'/>")
    (tmp_path / "c.wav").write_bytes(b"RIFF0000WAVE")
    data = "data:text/html;base64," + base64.b64encode(b"\0\0\0\0ftypisom").decode()
    text = render(
        item("0", image=str(tmp_path / "a.svg")),
        item("1", image=str(tmp_path / "b.png")),
        item("2", audio=str(tmp_path / "c.wav"), video=data, point=str(tmp_path / "absent.ply")),
    )
    assert f'<img alt="" src="data:image/png;base64,{base64.b64encode(PNG).decode()}">' in text
    assert "<p>image: b.png</p>" in text
    assert '<audio controls src="data:audio/wav;base64,' in text
    assert '<video controls src="data:video/mp4;base64,' in text
    assert "<p>point: absent.ply</p>" in text
    assert "alert" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text


def test_right_answers_are_left_out() -> None:
    text = render(item(), answer="yes")
    assert "0 of 1 questions" in text
    assert "<article>" not in text


def test_the_page_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = render(*(item(str(n)) for n in range(module.MAX_WRONG + 1)))
    assert text.count("<article>") == module.MAX_WRONG
    assert f"the page shows {module.MAX_WRONG}" in text
    path = tmp_path / "a.png"
    path.write_bytes(PNG + bytes(100))
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 50)
    assert "<img" not in render(item(image=str(path)))
    media = module.MediaBudget(max_bytes=10)
    assert list(media.elements(item(image=str(path)))) == ["<p>image: a.png</p>"]
