"""`bindserve embed` prints the released embeddings, or one line for an error."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from model_ext.imagebind.preprocess.limits import Limits
from server.cli.embed import Modality, embed

FIXTURES = Path(__file__).parents[2] / "fixtures"
MEDIA = FIXTURES / "media"
APP = typer.Typer()
APP.command()(embed)
GOLDEN = load_file(FIXTURES / "golden" / "embeddings.safetensors")
FILES = ("img_a.jpg", "img_b.png", "audio_a.wav", "audio_c.flac", "points_a.npy", "points_c.ply")


@pytest.fixture(scope="module")
def model(tiny_models: dict[str, Path]) -> Path:
    return tiny_models["finetune"]


def run(model: Path, *arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(model), *map(str, arguments)])


def unit(name: str) -> np.ndarray:
    """Return the embedding that the released code computes for a file, scaled to length 1."""
    vector: np.ndarray = GOLDEN[f"{name}/post"][0]
    return vector / np.linalg.norm(vector)


def test_released_embeddings(model: Path) -> None:
    result = run(model, *(MEDIA / name for name in FILES))
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [row["file"] for row in rows] == [str(MEDIA / name) for name in FILES]
    kinds = [row["modality"] for row in rows]
    assert kinds == ["image", "image", "audio", "audio", "point", "point"]
    for name, row in zip(FILES, rows, strict=True):
        np.testing.assert_allclose(row["embedding"], unit(name), atol=1e-5)


def test_an_array(model: Path, tmp_path: Path) -> None:
    files = [MEDIA / name for name in FILES[:3]]
    result = run(model, *files, "--format", "npy", "--out", tmp_path / "x.npy")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    vectors = np.load(tmp_path / "x.npy", allow_pickle=False)
    assert (vectors.shape, vectors.dtype) == ((3, 40), np.float32)
    np.testing.assert_allclose(vectors, [unit(name) for name in FILES[:3]], atol=1e-5)
    piped = run(model, *files, "--format", "npy")
    assert np.array_equal(np.load(io.BytesIO(piped.stdout_bytes), allow_pickle=False), vectors)


def test_modalities_that_the_content_does_not_show(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "motion.npy", np.zeros((6, 2000), np.float32))
    (tmp_path / "note").write_text("a dog barks")
    unknown = run(model, tmp_path / "motion.npy")
    assert unknown.exit_code == 1
    assert (
        unknown.stderr == f"error: {tmp_path / 'motion.npy'}: unknown file format; add --modality\n"
    )
    for name, modality in (("motion.npy", "imu"), ("note", "text")):
        result = run(model, tmp_path / name, "--modality", modality)
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)
        assert row["modality"] == modality
        assert abs(np.linalg.norm(row["embedding"]) - 1) < 1e-5


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"\xff\xd8\xff broken", "x.jpg: "), (None, "x.jpg: No such file or directory")],
)
def test_a_bad_file_is_named(
    model: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content:
        (tmp_path / "x.jpg").write_bytes(content)
    result = run(model, MEDIA / "img_a.jpg", tmp_path / "x.jpg")
    assert result.exit_code == 1
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_file_above_the_limit_is_not_read(model: Path, tmp_path: Path) -> None:
    with (tmp_path / "x.jpg").open("wb") as file:
        file.write(b"\xff\xd8\xff")
        file.truncate(1 << 34)
    result = run(model, tmp_path / "x.jpg")
    assert result.exit_code == 1
    assert f"more than the {Limits().image_bytes} allowed" in result.stderr


def test_a_video_above_the_limit_is_not_read(model: Path, tmp_path: Path) -> None:
    with (tmp_path / "x.mp4").open("wb") as file:
        file.write((MEDIA / "video_a.mp4").read_bytes()[:64])
        file.truncate(1 << 34)
    result = run(model, tmp_path / "x.mp4")
    assert result.exit_code == 1
    assert f"more than the {Limits().video_bytes} allowed" in result.stderr


def test_a_video_without_pictures_is_a_sound(model: Path) -> None:
    """Regression: the tensor of the sound was sent to the encoder of videos."""
    result = run(model, MEDIA / "audio_a.wav", "--modality", "video")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    assert row["modality"] == "audio"
    np.testing.assert_allclose(row["embedding"], unit("audio_a.wav"), atol=1e-5)


def test_the_suffix_decides_the_format_of_folders(model: Path, tmp_path: Path) -> None:
    result = run(model, tmp_path, "--out", tmp_path / "x.npy", "--format", "json")
    assert result.exit_code == 2
    assert "the suffix of --out decides" in result.stderr


def test_no_model(tmp_path: Path) -> None:
    result = run(tmp_path, MEDIA / "img_a.jpg")
    assert (result.exit_code, "not a model folder" in result.stderr) == (2, True)


def test_a_model_without_the_encoder(model: Path, tmp_path: Path) -> None:
    (tmp_path / "encoders").mkdir()
    sizes = json.loads((model / "encoders" / "config.json").read_text())
    del sizes["audio"]
    (tmp_path / "encoders" / "config.json").write_text(json.dumps(sizes))
    (tmp_path / "config.json").write_text("{}")
    result = run(tmp_path, MEDIA / "audio_a.wav")
    assert result.exit_code == 1
    assert "no audio encoder; there are vision, " in result.stderr


def test_the_modalities_are_those_of_attachments() -> None:
    from model_ext.imagebind.config import ENCODER_OF

    assert {str(modality) for modality in Modality} == ENCODER_OF.keys()
