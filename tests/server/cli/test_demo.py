"""The questions that `bindserve demo` sends after its start, here to a small fake server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from model_ext.demo import questions
from server.cli import demo
from tests.server.media_files import MEDIA, encoded

ANSWER = ["A dog", " that", " barks."]


class Handler(BaseHTTPRequestHandler):
    questions: list[Any] = []  # noqa: RUF012
    unready = 2  # how many requests to /ready get status 503

    def do_GET(self) -> None:
        Handler.unready -= 1
        self.send_response(503 if Handler.unready >= 0 else 200)
        self.end_headers()

    def do_POST(self) -> None:
        Handler.questions.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()
        chunks = [{"choices": [{"delta": {"content": text}}]} for text in ANSWER]
        chunks = [{"choices": [{"delta": {"role": "assistant"}}]}, *chunks, {"choices": []}]
        for chunk in chunks:
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.write(b": keep-alive\n\ndata: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def two_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MEDIA", MEDIA)
    monkeypatch.setattr(demo, "FIRST", ((("img_a.jpg", "audio_a.wav"), "What is it?"), ((), "Hi")))


def test_it_waits_for_the_server_and_prints_the_answers(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "POLL_S", 0.01)
    demo.ask_first(url)
    printed = capsys.readouterr().out
    assert printed.count("A dog that barks.") == 2
    assert "img_a.jpg + audio_a.wav" in printed
    about, plain = Handler.questions
    image, audio, text = about["messages"][0]["content"]
    assert image["file"] == {"filename": "img_a.jpg", "file_data": encoded("img_a.jpg")}
    assert audio["file"]["file_data"] == encoded("audio_a.wav")
    assert text["text"] == "What is it?"
    assert plain["messages"][0]["content"] == [{"type": "text", "text": "Hi"}]


def test_a_failed_question_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "wait_until_ready", lambda _: True)
    demo.ask_first("http://127.0.0.1:9")
    assert "the question failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listening", "reached"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("127.0.0.1", "127.0.0.1"), ("host", "host")],
)
def test_the_address_of_a_listening_host(listening: str, reached: str) -> None:
    assert demo.reachable(listening) == reached
