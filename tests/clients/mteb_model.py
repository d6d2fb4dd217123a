"""A model for mteb, which gets its embeddings from a running bindserve server. Imports nothing of
bindserve.
"""

import base64
import io
import os
from typing import Any

import numpy as np
import requests
import soundfile
from mteb.models.model_meta import ModelMeta, ScoringFunction
from numpy.typing import NDArray
from PIL import Image

URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
HEADERS = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '-')}"}


def part(kind: str, data: bytes) -> dict[str, Any]:
    data_url = f"data:;base64,{base64.b64encode(data).decode()}"
    return {"type": f"{kind}_url", f"{kind}_url": {"url": data_url}}


def image_part(image: Image.Image) -> dict[str, Any]:
    file = io.BytesIO()
    image.convert("RGB").save(file, "PNG")
    return part("image", file.getvalue())


def audio_part(sound: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    samples, rate = np.asarray(sound["array"], np.float32).T, sound["sampling_rate"]
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return part("audio", file.getvalue())


PARTS = {"text": lambda text: text, "image": image_part, "audio": audio_part}


class Bindserve:
    """An implementation of mteb's EncoderProtocol. If an item has a text and a picture, the server
    mixes them.
    """

    mteb_model_meta = ModelMeta.create_empty(
        {"name": "bindserve/imagebind", "revision": "1", "modalities": list(PARTS)}
        | {"similarity_fn_name": ScoringFunction.COSINE}
    )

    def encode(self, inputs: Any, **_: Any) -> NDArray[np.float32]:
        return np.concatenate([self.embed(batch) for batch in inputs])

    def embed(self, batch: dict[str, Any]) -> NDArray[np.float32]:
        columns = [map(make, batch[name]) for name, make in PARTS.items() if name in batch]
        body = {"input": [list(parts) for parts in zip(*columns, strict=True)]}
        response = requests.post(f"{URL}/embeddings", json=body, headers=HEADERS, timeout=600)
        response.raise_for_status()
        return np.array([item["embedding"] for item in response.json()["data"]], np.float32)

    def similarity(self, one: Any, other: Any) -> Any:
        return np.asarray(one) @ np.asarray(other).T  # the embeddings have length 1

    def similarity_pairwise(self, one: Any, other: Any) -> Any:
        return (np.asarray(one) * np.asarray(other)).sum(-1)
