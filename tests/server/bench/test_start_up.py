"""The benchmark of start-up times, with servers that become ready and servers that do not."""

import sys
import time
from pathlib import Path

import pytest

from model_ext.bench.random_model import TINY
from model_ext.bench.serving_folder import TINY_ENCODERS
from server.bench import start_up
from server.bench.service import free_port, started

SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    begin = time.monotonic()
    def do_GET(self):
        self.send_response(200 if time.monotonic() - self.begin > 0.5 else 503)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_server_is_ready_when_it_responds_with_200(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVER, str(port)]
    with started(command, tmp_path / "log", port, "/ready", {}) as service:
        assert 0.5 < service.wait(30) < 30
        assert service.process.poll() is None
    assert service.process.poll() is not None


def test_the_environment_of_a_server_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDSERVE_KEPT", "kept")
    monkeypatch.setenv("BINDSERVE_REMOVED", "here")
    names = "('BINDSERVE_KEPT', 'BINDSERVE_REMOVED', 'BINDSERVE_NEW')"
    command = [sys.executable, "-c", f"import os; print([os.environ.get(n) for n in {names}])"]
    changes = {"BINDSERVE_REMOVED": None, "BINDSERVE_NEW": "new"}
    with started(command, tmp_path / "log", free_port(), "/ready", changes) as service:
        service.process.wait(20)
    assert (tmp_path / "log").read_text() == "['kept', None, 'new']\n"


@pytest.mark.parametrize("code", ["import sys; sys.exit('no card')", "import time; time.sleep(60)"])
def test_a_server_that_does_not_start_is_an_error(code: str, tmp_path: Path) -> None:
    command, begin = [sys.executable, "-c", code], time.monotonic()
    with (
        started(command, tmp_path / "log", free_port(), "/ready", {}) as service,
        pytest.raises(RuntimeError, match=r"the server was not ready after \d+ s"),
    ):
        service.wait(3)
    assert time.monotonic() - begin < 20


def test_the_ratio_is_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("start_server", 3.0), ("start_plain_vllm", 2.0)):
        monkeypatch.setattr(start_up, name, lambda *_, s=seconds: s)
    monkeypatch.setattr(start_up, "start_s", lambda seconds: seconds)
    result = start_up.run(tmp_path, 2, TINY, TINY_ENCODERS, "cpu")
    assert (result.bindserve_s, result.vllm_s, result.ratio.median) == (3, 2, 1.5)
    assert "1.500" in str(result)
