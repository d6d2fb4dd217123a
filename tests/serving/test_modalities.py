"""For every modality over HTTP, embeddings equal the recorded values (goldens), and answers equal
those of the oracle (slow reference implementation). Depth, thermal and IMU inputs are arrays.
"""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.model_ext.imagebind.formulas import formula_input
from tests.oracle import Oracle
from tests.serving.launch import FIXTURES, PLAIN, Server, golden_index
from tests.serving.media import MEDIA

pytestmark = [pytest.mark.engine, pytest.mark.parametrize("spec", [PLAIN], ids=str)]

EMBEDDINGS = load_file(FIXTURES / "golden" / "embeddings.safetensors")
MIXED = load_file(FIXTURES / "golden" / "visual.safetensors")
TEXTS: list[str] = golden_index()["preprocess"]["text"]["texts"]  # type: ignore[index]
QUESTION = {"type": "text", "text": "Describe the scene in detail."}
ARRAYS = ("depth", "thermal", "imu")
# The server rejects .pt files with pickled arrays.
FILES = sorted(path.name for path in MEDIA.iterdir() if path.suffix != ".pt")
# Text 4 is too long. The server keeps its end token, but the released code drops this token.
SHORT_TEXTS = [f"text{i}" for i in range(len(TEXTS)) if i != 4]


def part(name: str, weight: float = 1) -> dict[str, Any]:
    if name in ARRAYS:
        buffer = io.BytesIO()
        np.save(buffer, formula_input(name).numpy())
        return {**file("array.npy", buffer.getvalue()), "modality": name, "weight": weight}
    if name.startswith("text"):
        text = TEXTS[int(name.removeprefix("text"))]
        return {"type": "imagebind_text", "imagebind_text": {"text": text}, "weight": weight}
    return {**file(name, (MEDIA / name).read_bytes()), "weight": weight}


def file(name: str, data: bytes) -> dict[str, Any]:
    content = {"filename": name, "file_data": base64.b64encode(data).decode()}
    return {"type": "file", "file": content}


@pytest.mark.parametrize("name", [*FILES, *SHORT_TEXTS, *ARRAYS])
def test_embeddings(server: Server, name: str) -> None:
    response = server.post("/v1/embeddings", {"model": "any", "input": [part(name)]})
    assert response.status_code == 200, response.text
    embedding = torch.tensor(response.json()["data"][0]["embedding"])
    expected = torch.nn.functional.normalize(EMBEDDINGS[f"{name}/post"][0], dim=0)
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("combo", ["video", "text", "image_text_point", "depth_thermal_imu"])
def test_answers(server: Server, tiny_models: dict[str, Path], combo: str) -> None:
    inputs = golden_index()["visual"]["combos"][combo]  # type: ignore[index]
    body: Any = server.chat(
        messages=[{"role": "user", "content": [part(*each) for each in inputs] + [QUESTION]}],
        imagebind={"cache": False},
        **{"temperature": 0, "max_tokens": 16, "return_token_ids": True},
    )
    oracle = Oracle.from_folder(tiny_models["finetune"])
    expected, _ = oracle.greedy(body["prompt_token_ids"], MIXED[f"{combo}/mixed"][0], 16)
    assert body["choices"][0]["token_ids"] == expected
