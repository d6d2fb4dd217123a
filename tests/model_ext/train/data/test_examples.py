"""Reading training data in every format. For a broken file, the error names the row."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from model_ext.train.data.conversations import Turns
from model_ext.train.data.examples import Example, Picture, distinct_pictures, read_examples
from model_ext.train.data.tokens import Turn
from model_ext.train.errors import TrainError

LLAVA = {
    "image": "a.png",
    "conversations": [
        {"from": "human", "value": "What is it?\n<image>"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "Whose?"},
        {"from": "gpt", "value": "Mine."},
        {"from": "human", "value": "unanswered"},
    ],
}
ALPACA = {"instruction": "Add.", "input": "1 and 2", "output": "3"}


def test_captions_keep_quotes_and_spaces(tmp_path: Path) -> None:
    path = tmp_path / "captions.csv"
    path.write_text('url\tcaption\na.png\t"A" cat, \' b\nb.png\t猫\n', encoding="utf-8")
    examples = read_examples(path, tmp_path)
    assert [example.turns[0].answer for example in examples] == ['"A" cat, \' b', "猫"]
    assert examples[0].picture == Picture(tmp_path / "a.png")
    assert examples[0].turns[0].instruction == "Generate caption of this image"


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ("first", (Turn("What is it?", "A cat."),)),
        ("all", (Turn("What is it?", "A cat."), Turn("Whose?", "Mine."))),
    ],
)
def test_conversations(tmp_path: Path, turns: Turns, expected: tuple[Turn, ...]) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([LLAVA, ALPACA]))
    picture, text = read_examples(path, tmp_path, turns)
    assert picture == Example(expected, Picture(tmp_path / "a.png"))
    assert text == Example((Turn("Add.", "3", "1 and 2"),), None)
    assert text.text_only


def test_every_round_is_an_example_with_the_same_picture(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([LLAVA, ALPACA, LLAVA]))
    examples = read_examples(path, tmp_path, "every")
    answers = [example.turns[0].answer for example in examples]
    assert answers == ["A cat.", "Mine.", "3", "A cat.", "Mine."]
    pictures, positions = distinct_pictures(examples)
    assert pictures == [Picture(tmp_path / "a.png")]
    assert positions == {0: 0, 1: 0, 3: 0, 4: 0}


def test_a_row_names_a_picture_or_embeddings(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([{**ALPACA, "embedding": "a.npy"}]))
    (example,) = read_examples(path, tmp_path)
    assert example.picture == Picture(tmp_path / "a.npy")
    assert example.picture.is_embedded
    for wrong in ({"embedding": "a.npy", "image": "a.png"}, {"embedding": "a.png"}):
        path.write_text(json.dumps([{**ALPACA, **wrong}]))
        with pytest.raises(TrainError, match="example 0: embedding"):
            read_examples(path, tmp_path)


def test_the_mark_of_the_picture_can_stay(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps([LLAVA]))
    (example,) = read_examples(path, tmp_path, image_mark=True)
    assert example.turns[0].instruction == "What is it?\n<image>"


def test_json_lines_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(LLAVA) + "\n\n" + json.dumps(ALPACA) + "\n")
    assert [example.text_only for example in read_examples(path, tmp_path)] == [False, True]


def test_shards_are_read_in_place(tmp_path: Path) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"shard-{number}.tar", "w") as tar:
            add(tar, f"{number}/one.jpg", b"picture %d" % number)
            add(tar, f"{number}/one.txt", b"a caption")
            add(tar, f"{number}/two.json", json.dumps(ALPACA).encode())
            add(tar, f"{number}/three.json", json.dumps({"caption": "c"}).encode())
            add(tar, f"{number}/three.png", b"other %d" % number)
    examples = read_examples(tmp_path / "shard-*.tar", tmp_path)
    assert [example.turns[0].answer for example in examples] == ["a caption", "3", "c"] * 2
    pictures = [example.picture.read() for example in examples if example.picture]
    assert pictures == [b"picture 0", b"other 0", b"picture 1", b"other 1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "url,caption\nx,y\n", "no column caption, url; separate the columns with tabs"),
        ("a.tsv", "url\tcaption\nx.png\n", "a.tsv:2: the row has no url or no caption"),
        ("a.json", "{", "not JSON"),
        ("a.json", "{}", "a.json: must hold a JSON list of examples"),
        ("a.json", '[{"instruction": "x"}]', "example 0.*output"),
        (
            "a.json",
            '[{"image": "x", "conversations": []}]',
            "a conversation needs a question and an answer",
        ),
        ("a.tar", "no tar", "not a tar file"),
        ("a.parquet", "", "expected .tsv"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(TrainError, match=message):
        read_examples(path, tmp_path)


@pytest.mark.parametrize("name", ["none.csv", "none.json", "none-*.tar"])
def test_missing_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(TrainError, match="none"):
        read_examples(tmp_path / name, tmp_path)


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"gone\.png"):
        Picture(tmp_path / "gone.png").read()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
