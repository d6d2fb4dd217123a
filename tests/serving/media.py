"""The inputs of the recorded answers (goldens) of the released code, as parts of a chat."""

import base64

from tests.serving.launch import FIXTURES

MEDIA = FIXTURES / "media"


def encoded(name: str) -> str:
    return base64.b64encode((MEDIA / name).read_bytes()).decode()


IMAGE = {
    "type": "image_url",
    "image_url": {"url": f"data:image/jpeg;base64,{encoded('img_a.jpg')}"},
}
AUDIO = {"type": "input_audio", "input_audio": {"data": encoded("audio_a.wav"), "format": "wav"}}
POINT = {
    "type": "file",
    "file": {"filename": "points_a.npy", "file_data": encoded("points_a.npy")},
}
COMBOS: dict[str, list[dict[str, object]]] = {
    "image": [IMAGE],
    "audio": [AUDIO],
    "image_audio": [IMAGE, AUDIO],
    "point": [POINT],
}
