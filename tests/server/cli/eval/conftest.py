"""A small fake server, made with the standard library, which answers OpenAI's chat completions."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Server:
    """Answers chat completions with the result of `reply(body)`: a status, a text or a JSON
    object.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.reply: Callable[[dict[str, Any]], int | str | dict[str, Any]] = lambda _: "Yes"
        self.active = self.peak = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # send headers and body in one packet

            def do_GET(self) -> None:
                self.respond(200, {"data": [{"id": "tiny"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.bodies.append(body)
                    outer.headers.append(self.headers["Authorization"])
                    outer.active += 1
                    outer.peak = max(outer.peak, outer.active)
                reply = outer.reply(body)
                with outer.lock:
                    outer.active -= 1
                if isinstance(reply, int):
                    self.respond(reply, {"error": "of the test"})
                elif isinstance(reply, dict):
                    self.respond(200, reply)
                else:
                    choice = {"message": {"content": reply}, "finish_reason": "stop"}
                    self.respond(200, {"choices": [choice]})

            def respond(self, status: int, value: object) -> None:
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def asked(self) -> Counter[str]:
        return Counter(question_of(body) for body in self.bodies)


def question_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"][-1]["text"])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()
