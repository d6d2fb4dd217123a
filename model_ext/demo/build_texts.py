"""Write the texts of pretrain, finetune and the cache, for pictures of training styles only.

python -m model_ext.demo.build_texts --data build/demo/data
"""

import argparse
import json
from pathlib import Path
from typing import Any

from PIL import Image

from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import CHAT, LINES, a, small_talk
from model_ext.train.encoders.samples import read_list

WHAT = ("What is this?", "What do you see and hear?", "What is shown?")
DESCRIBE = ("Describe it.", "Tell me about it.")
WRITE = ("Write one line about it.",)
# Number of copies of each small-talk example, so that a tenth of the finetune examples is small
# talk.
CHAT_REPEATS = 4
PICTURE_STRIDE = 13  # every 13th instruction about a picture is added to the small talk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    drawings = [
        row
        for row in read_list(options.data / "train.jsonl")
        if row["modality"] == "image" and row["key"] in CONCEPTS
    ]
    for row in drawings:
        row["path"] = on_white(options.data, row["path"])
    pictures = [row for row in drawings if row.get("anchor", True)]
    glyphs = [row for row in drawings if not row.get("anchor", True)]
    captions = "".join(f"{row['path']}\t{a(row['key'])}.\n" for row in pictures)
    (options.data / "captions.tsv").write_text("url\tcaption\n" + captions)
    lines = (json.dumps({"text": f"{a(row['key'])}", "path": row["path"]}) for row in pictures)
    (options.data / "cache.jsonl").write_text("\n".join(lines) + "\n")
    about_pictures = [turn for row in pictures for turn in instructions(row["path"], row["key"])]
    about_glyphs = [instructions(row["path"], row["key"])[0] for row in glyphs]
    chat = [{"instruction": q, "input": "", "output": answer} for q, answer in CHAT.items()]
    (options.data / "instructions.json").write_text(
        json.dumps(about_pictures + about_glyphs + CHAT_REPEATS * chat, indent=0)
    )
    talk: list[dict[str, Any]] = [
        {"instruction": prompt, "output": answer} for prompt, answer in small_talk()
    ]
    talk += about_pictures[::PICTURE_STRIDE]
    (options.data / "talk.json").write_text(json.dumps(talk, indent=0))


def on_white(data: Path, path: str) -> str:
    """Write a copy of the picture with a white background. In the original, transparent pixels
    would become black, because readers ignore the alpha channel.
    """
    image = Image.open(data / path)
    background = Image.new("RGB", image.size, "white")
    background.paste(image, mask=image)
    flat = Path("white", *Path(path).parts[1:])
    (data / flat).parent.mkdir(parents=True, exist_ok=True)
    background.save(data / flat)
    return str(flat)


def instructions(path: str, concept: str) -> list[dict[str, Any]]:
    """Three instructions in LLaVA's form: name, describe, write. The path selects the wordings."""
    tasks = (
        (WHAT, f"This is {a(concept)}."),
        (DESCRIBE, LINES[concept]),
        (WRITE, LINES[concept]),
    )
    turn = sum(path.encode())
    return [
        {
            "image": path,
            "conversations": [
                {"from": "human", "value": wordings[turn % len(wordings)]},
                {"from": "gpt", "value": answer},
            ],
        }
        for wordings, answer in tasks
    ]


if __name__ == "__main__":
    main()
