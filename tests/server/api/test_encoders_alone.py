"""A server without a language model does not import vLLM, and has all routes of the encoders."""

import subprocess
import sys
from pathlib import Path

import pytest

from model_ext.convert.encoders_alone import EncoderSource, write_encoders
from server.api.launch import encoder_flags
from server.engine.exposure import UsageError, weaviate_address
from server.settings import Settings

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "fixtures" / "tiny"
PROGRAM = """
import asyncio, sys
from contextlib import nullcontext
from pathlib import Path

for name in ("vllm", "model_ext.engine", "model_ext.weights", "server.engine.llm"):
    sys.modules[name] = None  # importing it raises ImportError

import httpx
import numpy as np
import server.cli.serve, server.cli.preflight, server.encoding.service, server.api.__main__
from server.api.launch import encoder_flags
from server.api.launch import encoders as launch_encoders
from server.api.app import open_application
from server.api.encoders_alone import NoEngine
from server.api.embedding.weaviate import create_weaviate_app
from server.encoding.messages import Hello
from server.media.embedded import Embedded
from server.settings import Settings

class Encoders:
    async def hello(self):
        return Hello(["text"]), np.zeros(40, np.float32)
    async def embed(self, modality, content, options):
        numbers = np.append(np.eye(40, dtype=np.float32)[content.size], np.float32(2))
        return Embedded(modality, numbers)
    def missing(self):
        return None
    async def close(self):
        pass

def client(app):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")

async def main(model, scratch):
    settings = Settings.load(model=Path(model))
    args, engine = encoder_flags.parse(settings), NoEngine()
    async with open_application(
        settings, args, nullcontext(engine), Encoders(), Path(scratch)
    ) as application:
        http = client(application.app)
        for path in ("/health", "/ready", "/metrics", "/v1/models", "/v1/models/alone"):
            assert (await http.get(path)).status_code == 200, path
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert "/v1/embeddings" in paths and "/v1/chat/completions" not in paths
        for path in ("chat/completions", "completions", "responses", "messages"):
            response = await http.post(f"/v1/{path}", json={"messages": []})
            assert response.status_code == 404
            assert response.json()["error"]["code"] == "no_language_model"
        response = await http.post("/v1/embeddings", json={"model": "alone", "input": "abc"})
        assert response.json()["data"][0]["embedding"][3] == 1
        response = await http.post("/v1/embeddings", json={"model": "other", "input": "abc"})
        assert response.status_code == 404
        response = await http.post("/v1/embeddings", json={"dimensions": "x", "input": "abc"})
        assert response.status_code == 400, response.text
        assert (await http.get("/v1/embeddings")).status_code == 405
        weaviate = client(create_weaviate_app(application.app))
        response = await weaviate.post("/vectorize", json={"texts": ["abc"]})
        assert response.json()["textVectors"][0][3] == 2
        engine.draining = True
        assert (await http.get("/ready")).status_code == 503
        assert (await weaviate.get("/.well-known/ready")).status_code == 503
        response = await http.post("/v1/embeddings", json={"input": "abc"})
        assert response.json()["error"]["code"] == "draining"
    loaded = [name for name in sys.modules if name.split(".")[0] in ("vllm", "transformers")]
    assert loaded == ["vllm"], loaded

asyncio.run(main(*sys.argv[1:]))
"""


def test_it_never_imports_vllm_or_the_language_model(tmp_path: Path) -> None:
    source = EncoderSource(imagebind=TINY / "imagebind_w3D.pth", modalities=("text",))
    (tmp_path / "alone").mkdir()
    write_encoders(source, tmp_path / "alone", progress=False)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "alone"), str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_flags_have_vllms_names() -> None:
    flags = ("--port=9", "--allowed-origins", '["*"]', "--disable-fastapi-docs")
    args = encoder_flags.parse(Settings(model=Path("m"), vllm_args=flags))
    assert (args.port, args.allowed_origins, args.disable_fastapi_docs) == (9, ["*"], True)


@pytest.mark.parametrize(
    "flags", [("--max-model-len=8",), ("--allowed-origins=x",), ("--host=0.0.0.0",)], ids=str
)
def test_other_flags_are_usage_errors(flags: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        encoder_flags.parse(Settings(model=Path("m"), vllm_args=flags))


@pytest.mark.parametrize("address", ["8080", "localhost", "127.0.0.1:99999", "0.0.0.0:8080"])
def test_an_address_that_weaviate_must_not_get_is_a_usage_error(address: str) -> None:
    with pytest.raises(UsageError):
        weaviate_address(Settings(model=Path("m"), weaviate=address))


def test_weaviates_address() -> None:
    settings = Settings(model=Path("m"), weaviate="[::1]:8080")
    assert weaviate_address(settings) == ("::1", 8080)
    settings = Settings(model=Path("m"), weaviate="0.0.0.0:8080", no_auth=True)
    assert weaviate_address(settings) == ("0.0.0.0", 8080)
