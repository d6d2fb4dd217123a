"""A server of encoders alone: recorded embeddings, and a batch that survives `kill -9`."""

import base64
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file

from model_ext.convert.encoders_alone import EncoderSource, write_encoders
from server.conditioning.mix import normalize
from tests.serving.launch import FIXTURES, Server, descendants, serve_encoders
from tests.serving.media import MEDIA
from tests.serving.test_modalities import ARRAYS, FILES, SHORT_TEXTS
from tests.serving.test_modalities import part as part_of

pytestmark = pytest.mark.engine

GOLDEN = load_file(FIXTURES / "golden" / "embeddings.safetensors")
OTHERS = 3  # requests to /v1/embeddings before the batch
DONE = ("completed", "failed", "expired", "cancelled")
LINES = 500
BAD = range(3, LINES, 25)  # the numbers of the 20 lines whose model does not exist


# A server of encoders alone must import none of these modules. In all of its processes, importing
# one of them raises ImportError.
FORBIDDEN = """
import sys

for name in ("vllm", "transformers", "model_ext.bind", "model_ext.engine", "model_ext.inject",
             "model_ext.plugin", "server.api.language_model", "server.engine.llm"):
    sys.modules[name] = None
"""


@contextmanager
def started(folder: Path) -> Iterator[Server]:
    (folder / "python").mkdir(exist_ok=True)
    (folder / "python" / "sitecustomize.py").write_text(FORBIDDEN)
    paths = [str(folder / "python"), os.environ.get("PYTHONPATH", "")]
    variables = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    options = [f"--state-folder={folder / 'state'}", "--decode-workers=1", "--request-log"]
    log = folder / f"{time.monotonic_ns()}.log"
    with serve_encoders(folder / "model", log, *options, variables=variables) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    (folder / "model").mkdir()
    source = EncoderSource(imagebind=FIXTURES / "tiny" / "imagebind_w3D.pth")
    write_encoders(source, folder / "model", progress=False)
    return folder


def test_recorded_embeddings_and_a_batch_after_kill_9(folder: Path) -> None:
    with started(folder) as server:
        check_embeddings(server)
        check_ib_score(server)
        check_imports(server)
        batch_id = create_batch(server)
        while status(server, batch_id)["request_counts"]["completed"] < LINES // 4:
            time.sleep(0.01)
        pids = descendants(server.process.pid)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        for pid in pids:
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.05)
        before = requests(server.log) - OTHERS
    with started(folder) as server:
        while (batch := status(server, batch_id))["status"] not in DONE:
            time.sleep(0.05)
        assert batch["request_counts"] == {
            "total": LINES,
            "completed": LINES - len(BAD),
            "failed": len(BAD),
        }
        output, errors = (results(server, batch[f"{kind}_file_id"]) for kind in ("output", "error"))
        assert sorted([*output, *errors], key=int) == [str(k) for k in range(LINES)]
        assert sorted(errors, key=int) == [str(k) for k in BAD]
        # At most the requests that were running were computed twice.
        assert before + requests(server.log) <= LINES + 16


def part(name: str, kind: str) -> dict[str, object]:
    return part_with((MEDIA / name).read_bytes(), kind)


def part_with(data: bytes, kind: str) -> dict[str, object]:
    url = f"data:;base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def video_with_sound(video: str, sound: str) -> bytes:
    """A QuickTime file with the pictures of one file and the sound of the other, both without
    loss.
    """
    file = io.BytesIO()
    with (
        av.open(MEDIA / video) as pictures,
        av.open(MEDIA / sound) as sounds,
        av.open(file, "w", format="mov") as output,
    ):
        source = sounds.streams.audio[0]
        track = output.add_stream_from_template(pictures.streams.video[0])
        samples = output.add_stream("pcm_s16le", rate=source.rate)
        samples.layout = source.layout
        for packet in pictures.demux(video=0):
            if packet.dts is not None:  # the last packet is empty
                packet.stream = track
                output.mux(packet)
        for frame in sounds.decode(source):
            output.mux(samples.encode(frame))
        output.mux(samples.encode(None))
    return file.getvalue()


def check_embeddings(server: Server) -> None:
    """Compare the embeddings of all goldens with those of the reference implementation."""
    names = [*FILES, *SHORT_TEXTS, *ARRAYS]
    response = server.post("/v1/embeddings", {"input": [part_of(name) for name in names]})
    assert response.status_code == 200, response.text
    embeddings = [item["embedding"] for item in response.json()["data"]]
    expected = np.concatenate([normalize(GOLDEN[f"{name}/post"]) for name in names])
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5)


def check_ib_score(server: Server) -> None:
    """Compare the score of a video and its sound with its definition: the cosine of the embeddings,
    or the mean of the cosines of windows that start at the same time.
    """
    file = video_with_sound("video_a.mp4", "audio_a.wav")
    video, sound = part_with(file, "video"), part_with(file, "video") | {"modality": "audio"}
    request = {"data_1": video, "data_2": sound}
    expected = GOLDEN["video_a.mp4/post"][0], GOLDEN["audio_a.wav/post"][0]
    score = server.post("/v1/score", request).json()["data"][0]["score"]
    assert score == pytest.approx(float(normalize(expected[0]) @ normalize(expected[1])), abs=1e-5)
    options = {"imagebind": {"windows": {"seconds": 2, "stride": 1}}}
    windows = [
        [item["embedding"] for item in server.post("/v1/embeddings", body).json()["data"]]
        for body in ({"input": [video], **options}, {"input": [sound], **options})
    ]
    cosines = [np.dot(one, other) for one, other in zip(*windows, strict=False)]
    assert len(cosines) > 1
    result = server.post("/v1/score", {**request, **options}).json()["data"][0]
    assert result["score"] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert result["imagebind"] == {"windows": len(cosines)}


def check_imports(server: Server) -> None:
    """No process of the server has loaded a library of vLLM."""
    for pid in [server.process.pid, *descendants(server.process.pid)]:
        assert "/vllm/" not in Path(f"/proc/{pid}/maps").read_text()


def create_batch(server: Server) -> str:
    lines = [
        {
            "custom_id": str(k),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "other" if k in BAD else "model", "input": f"text {k}"},
        }
        for k in range(LINES)
    ]
    content = "\n".join(map(json.dumps, lines))
    form = {"files": {"file": ("in.jsonl", content)}, "data": {"purpose": "batch"}}
    file_id = httpx.post(f"{server.url}/v1/files", **form).json()["id"]
    body = {
        "input_file_id": file_id,
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
    }
    batch: dict[str, str] = server.post("/v1/batches", body).json()
    return batch["id"]


def status(server: Server, batch_id: str) -> dict[str, object]:
    batch: dict[str, object] = httpx.get(f"{server.url}/v1/batches/{batch_id}").json()
    return batch


def results(server: Server, file_id: object) -> list[str]:
    text = httpx.get(f"{server.url}/v1/files/{file_id}/content").text
    return [json.loads(line)["custom_id"] for line in text.splitlines()]


def requests(log: Path) -> int:
    """The number of requests to /v1/embeddings in the server's request log."""
    return sum('"route": "/v1/embeddings"' in line for line in log.read_text().splitlines())
