"""Send twenty fixed questions, with or without example media, to the demonstration model.

    python -m model_ext.demo.questions [URL] [--no-cache]

Prints the answers of a running `bindserve demo` as a table. Needs only HTTP.
"""

import argparse
import base64
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEDIA = Path(__file__).parent / "media"
PICTURE, WORD, CLOUD, CLIP = "cat.jpg", "penguin.wav", "airplane.ply", "umbrella.mp4"
WHAT, DESCRIBE, LINE = "What is this?", "Describe it.", "Write one line about it."
Question = tuple[tuple[str, ...], str]
TWENTY: tuple[Question, ...] = (
    *(((file,), text) for file in (PICTURE, WORD, CLOUD, CLIP) for text in (WHAT, DESCRIBE, LINE)),
    ((PICTURE, WORD), WHAT),
    ((PICTURE,), "Is it an animal or a thing?"),
    ((), "Hello! Who are you?"),
    ((), "What is the capital of France?"),
    ((), "Name three colors."),
    ((), "Give me one tip for learning to swim."),
    ((), "What is 2 + 3?"),
    ((), "Write one sentence about the sea."),
)


def request(files: Sequence[str], text: str, *, cache: bool = True) -> dict[str, Any]:
    """The body of a chat request with greedy decoding and files of `media`."""
    parts: list[dict[str, Any]] = []
    for name in files:
        data = base64.b64encode((MEDIA / name).read_bytes()).decode()
        parts.append({"type": "file", "file": {"filename": name, "file_data": data}})
    return {
        "model": "demo",
        "temperature": 0,
        "max_tokens": 48,
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}],
        **({} if cache else {"imagebind": {"cache": False}}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--no-cache", action="store_true", help="without the retrieval cache")
    options = parser.parse_args()
    print("| input | question | answer |\n|---|---|---|")
    for files, text in TWENTY:
        body = json.dumps(request(files, text, cache=not options.no_cache)).encode()
        http = urllib.request.Request(
            f"{options.url}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(http, timeout=300) as response:
            answer = json.load(response)["choices"][0]["message"]["content"]
        print(f"| {' + '.join(files)} | {text} | {' '.join(answer.split())} |", flush=True)


if __name__ == "__main__":
    main()
