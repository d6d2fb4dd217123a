"""Two API processes share one engine, files and metrics; each process can answer any request.

The engine has two workers (vLLM's tensor parallelism) in separate processes, as vLLM starts them by
default on a CPU. The other tests run the worker in the engine's process. The server has two LoRA
adapters.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.media_files import media
from tests.serving.launch import Server, descendants, serve
from tests.serving.test_forms import Adapted, check

pytestmark = pytest.mark.engine

REQUESTS = 24
ENCODED = 'bindserve_stage_seconds_count{modality="image",stage="encode"}'


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def adapted(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Adapted:
    return Adapted.write(tiny_models["finetune"], tmp_path_factory.mktemp("adapted"))


@pytest.fixture(scope="module")
def pair(adapted: Adapted, scratch: Path) -> Iterator[Server]:
    config = scratch.parent / "settings.yaml"
    config.write_text(json.dumps({"upload_folder": str(scratch)}))
    options = ("--cache=none", f"--config={config}")
    log = scratch.parent / "server.log"
    flags, cores = [*adapted.flags, "--api-server-count=2"], sorted(os.sched_getaffinity(0))[:2]
    with pytest.MonkeyPatch.context() as environment:
        if len(cores) == 2:  # vLLM needs one core for each rank
            flags += ["--tensor-parallel-size=2"]
            environment.setenv("VLLM_CPU_OMP_THREADS_BIND", "|".join(map(str, cores)))
        with serve(adapted.model, log, *options, flags=flags, executor="mp") as server:
            yield server


def count(page: str, name: str) -> float:
    """Return the sum of a metric over all its labels."""
    lines = [line for line in page.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_both_processes_have_every_file_and_sum_their_metrics(pair: Server, scratch: Path) -> None:
    url = pair.url
    form = {"purpose": "user_data"}
    made = httpx.post(f"{url}/v1/files", files={"file": media("img_a.jpg")}, data=form).json()
    part = {"type": "file", "file": {"file_id": made["id"]}}
    body = {
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}],
        **{"model": "any", "max_tokens": 4, "temperature": 0},
    }
    answers = [pair.post("/v1/chat/completions", body) for _ in range(REQUESTS)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({text(answer.json()) for answer in answers}) == 1
    page = httpx.get(f"{url}/metrics").text
    assert count(page, "bindserve_attachments_total") == REQUESTS
    assert count(page, "vllm:request_success_total") == REQUESTS
    (folder,) = scratch.iterdir()
    assert len(list(folder.glob("owners/*/file-*"))) == 2  # an uploaded file and its record


def test_concurrent_answers_of_all_adapters_are_the_oracles(pair: Server, adapted: Adapted) -> None:
    check(pair, adapted.oracles)


def test_equal_files_are_encoded_once_for_both_processes(pair: Server) -> None:
    """Both API processes use one encoding service, which encodes 100 equal files only once."""
    part = {"type": "file", "file": {"file_data": encoded(media("img_b.png"))}}
    before = count(httpx.get(f"{pair.url}/metrics").text, ENCODED)
    with ThreadPoolExecutor(100) as pool:
        body = {"model": "any", "input": [part]}
        answers = list(pool.map(lambda _: pair.post("/v1/embeddings", body), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    page = httpx.get(f"{pair.url}/metrics").text
    assert count(page, ENCODED) == before + 1


def text(answer: Any) -> str:
    content: str = answer["choices"][0]["message"]["content"]
    return content


def test_both_processes_stop_and_leave_no_file(pair: Server, scratch: Path) -> None:
    children = descendants(pair.process.pid)
    assert len(children) >= 8  # These are all processes of the server.
    pair.process.terminate()
    assert pair.process.wait(60) == 0
    deadline = time.monotonic() + 20  # Python's resource tracker ends last.
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list(scratch.iterdir())
    log = pair.log.read_text()
    assert "Traceback" not in log
    assert "the engine died" not in log


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
