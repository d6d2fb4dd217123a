"""The commands `bindserve cache ...`: caches that are built from each kind of source, and the
errors of each command.

The small encoders of the test fixtures embed media files. The tests compare these embeddings with
those of the released code.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from cache_index.captions import Caption
from cache_index.index import CacheIndex
from cache_index.manifest import read_manifest
from server.cli.cache import media_features
from server.cli.cache.commands import app
from server.cli.cache.media_list import read_media_list

FIXTURES = Path(__file__).parents[3] / "fixtures"
MEDIA = FIXTURES / "media"
GOLDEN = load_file(FIXTURES / "golden" / "embeddings.safetensors")
ROWS = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


def cache(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def build(*arguments: object) -> str:
    result = cache("build", *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def error_of(*arguments: object, code: int = 1) -> str:
    result = cache(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stderr


def rows_of(folder: Path) -> np.ndarray:
    index = CacheIndex.open(folder)
    rows: np.ndarray = index.gather(np.arange(len(index)))
    index.close()
    return rows


def captions_of(folder: Path) -> list[Caption]:
    index = CacheIndex.open(folder)
    captions = [index.captions[row] for row in range(len(index))]
    index.close()
    return captions


def unit(name: str) -> np.ndarray:
    vector: np.ndarray = GOLDEN[f"{name}/post"][0]
    return vector / np.linalg.norm(vector)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # Use one decoding process, because each of them imports torch, which takes seconds.
    monkeypatch.setenv("BINDSERVE_DECODE_WORKERS", "1")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    np.save(tmp_path / "f.npy", ROWS)
    return tmp_path / "f.npy"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two pictures (one with a caption, one in a subfolder) and other files."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    shutil.copy(MEDIA / "img_a.jpg", folder / "a.jpg")
    (folder / "a.txt").write_text("the first ☔\n")
    shutil.copy(MEDIA / "img_b.png", folder / "more" / "b.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    shutil.copy(MEDIA / "audio_a.wav", folder / "c.wav")
    (folder / ".hidden.jpg").write_bytes(b"")
    (folder / "readme.txt").write_text("no caption of anything")
    return folder


# The following tests build caches from feature files.


@pytest.mark.parametrize("form", ["npy", "safetensors", "shards"])
def test_features_of_every_form(features: Path, tmp_path: Path, form: str) -> None:
    source = features
    if form == "safetensors":
        source = tmp_path / "f.safetensors"
        save_file({"x": ROWS}, source)
    elif form == "shards":
        source = tmp_path / "shards"
        source.mkdir()
        np.save(source / "0.npy", ROWS[:20])
        save_file({"x": ROWS[20:]}, source / "1.safetensors")
    output = build(source, "--out", tmp_path / "c", "--dtype", "float32")
    assert output == f"{tmp_path / 'c'}: 60 vectors of 8 numbers, Flat\n"
    expected = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    np.testing.assert_allclose(rows_of(tmp_path / "c"), expected, atol=1e-6)


def test_options_reach_the_manifest(features: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("".join(f"row {i}\n" for i in range(60)))
    output = build(
        *(features, "--out", tmp_path / "c", "--captions", tmp_path / "names.txt"),
        *("--kind", "IVF4,SQ8", "--recall", "0.9", "--queries", features, "--no-normalize"),
        *("--top-k", "3", "--temperature", "5", "--weight", "0.25", "--form", "paper"),
        *("--encoder-sha256", "e" * 64),
    )
    manifest = read_manifest(tmp_path / "c")
    assert (manifest.kind, manifest.vector_dtype) == ("IVF4,SQ8", "float16")
    assert manifest.recall is not None
    assert manifest.recall.value >= 0.9
    assert "on 30 unseen queries" in output
    defaults = manifest.defaults
    assert (defaults.top_k, defaults.inverse_temperature, defaults.weight) == (3, 5, 0.25)
    assert (defaults.form, manifest.encoder) == ("paper", {"sha256": "e" * 64})
    assert captions_of(tmp_path / "c")[7] == Caption("row 7")
    np.testing.assert_allclose(rows_of(tmp_path / "c"), ROWS, rtol=1e-3, atol=1e-4)


def test_an_index_is_kept(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    knn = FIXTURES / "tiny" / "knn-ivf.index"
    build(knn, "--out", tmp_path / "c", "--model", tiny_models["finetune"])
    manifest = read_manifest(tmp_path / "c")
    assert (manifest.kind, manifest.vector_dtype) == ("IVF32,Flat", "float32")
    assert (tmp_path / "c" / "index.faiss").read_bytes() == knn.read_bytes()
    # The build copies the encoders' hash from the model folder.
    assert len(manifest.encoder["sha256"]) == 64


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (("--kind", "HNSW32"), "no supported index kind"),
        (("--target", "gpu", "--kind", "IVF4,PQ4x4fs"), "no GPU index"),
        (("--captions", "nowhere.txt"), "nowhere.txt"),
        (("--top-k", "0"), "top_k"),
        (("--weight", "2"), "weight"),
        (("--encoder-sha256", "x", "--model", "m"), "--encoder-sha256: --model already names"),
    ],
)
def test_wrong_options(
    features: Path, tmp_path: Path, options: tuple[str, ...], output: str
) -> None:
    assert output in error_of("build", features, "--out", tmp_path / "c", *options)
    assert not (tmp_path / "c").exists()


def test_wrong_sources(features: Path, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "text").write_text("no index")
    (tmp_path / "list.tsv").write_text("path\tcaption\na.jpg\tx\n")
    (tmp_path / "empty").mkdir()
    out = ("--out", tmp_path / "c")
    assert "no such file" in error_of("build", "nowhere", *out)
    assert "not a FAISS index" in error_of("build", tmp_path / "text", *out)
    assert "add --model" in error_of("build", photos, *out)
    model = ("--model", tmp_path)
    assert "not a model folder" in error_of("build", features, *out, *model, code=2)
    assert "no column url" in error_of("build", tmp_path / "list.tsv", *out, *model)
    assert "contains no files" in error_of("build", tmp_path / "empty", *out, *model)


# The following tests build caches from media files.


def test_a_folder_of_media(tiny_models: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    model, out = tiny_models["finetune"], tmp_path / "c"
    result = cache("build", photos, "--model", model, "--out", out, "--dtype", "float32")
    assert result.exit_code == 0, result.output
    assert "2 vectors of 40 numbers" in result.stdout
    assert "skipped 3 of 5 files" in result.stderr + result.stdout
    assert "broken.jpg" in result.stderr + result.stdout
    np.testing.assert_allclose(
        rows_of(out), [unit("img_a.jpg"), unit("img_b.png")], rtol=0, atol=1e-5
    )
    assert captions_of(out) == [Caption("the first ☔", "a.jpg"), Caption(None, "more/b.png")]
    manifest = read_manifest(out)
    assert manifest.encoder["modality"] == "image"
    assert not list(tmp_path.glob(".*"))  # The build deletes its temporary folders.
    spoken = tmp_path / "s"
    build(photos, "--model", model, "--out", spoken, "--modality", "audio", "--dtype", "float32")
    np.testing.assert_allclose(rows_of(spoken), [unit("audio_a.wav")], rtol=0, atol=1e-5)


def test_a_list_of_media_whose_features_are_kept(
    tiny_models: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    listed = photos / "list.tsv"
    listed.write_text('url\tcaption\tid\nmore/b.png\tquote "this\tB\nno.jpg\tx\t\na.jpg\t\t\n')
    kept = tmp_path / "features"
    options = ("--model", tiny_models["finetune"], "--keep-features", kept, "--dtype", "float32")
    result = cache("build", listed, "--out", tmp_path / "c", *options)
    assert result.exit_code == 0, result.output
    assert "no.jpg: No such file" in result.stderr + result.stdout
    expected = [Caption('quote "this', "B"), Caption("", "a.jpg")]
    assert captions_of(tmp_path / "c") == expected
    # Build a second cache from the features and captions that the first build kept.
    build(kept, "--out", tmp_path / "again", "--dtype", "float32")
    assert np.array_equal(rows_of(tmp_path / "again"), rows_of(tmp_path / "c"))
    assert captions_of(tmp_path / "again") == expected
    other = error_of("build", photos, "--out", tmp_path / "d", *options)
    assert "features: holds an unfinished build from other inputs or options" in other
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.npy").touch()
    options = (*options[:3], foreign)
    other = error_of("build", photos, "--out", tmp_path / "d", *options)
    assert "not an unfinished build" in other
    assert (foreign / "mine.npy").exists()


def test_urls_are_fetched_only_if_allowed(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "l.tsv").write_text("url\tcaption\nhttp://127.0.0.1:9/a.jpg\tx\n")
    build = ("build", tmp_path / "l.tsv", "--out", tmp_path / "c")
    model = ("--model", tiny_models["finetune"])
    assert "add --allow-media-urls" in error_of(*build, *model)
    output = error_of(*build, *model, "--allow-media-urls")
    # The command downloads only from public addresses, so it skips the URL above.
    assert "none of 1 files could be embedded" in output


def test_an_interrupted_build_is_resumed(
    tiny_models: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build embeds two files at a time, and is interrupted at the fourth file. The resumed
    build must not embed the first file again.
    """
    monkeypatch.setenv("BINDSERVE_ENCODE_BATCH", "1")
    original, seen = media_features.MediaEmbedder.embed, list[str]()

    async def embed(self: media_features.MediaEmbedder, item: media_features.MediaItem) -> object:
        seen.append(Path(item.place).name)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return await original(self, item)

    monkeypatch.setattr(media_features.MediaEmbedder, "embed", embed)
    model, out = tiny_models["finetune"], tmp_path / "c"
    command = ("build", photos, "--model", model, "--out", out, "--dtype", "float32")
    assert "interrupted; run the same command again to resume" in error_of(*command)
    assert seen == ["a.jpg", "broken.jpg", "c.wav", "b.png"]
    seen.append("interrupted")
    build(*command[1:])
    assert seen[5:] in (["c.wav", "b.png", "readme.txt"], ["b.png", "readme.txt"])
    np.testing.assert_allclose(rows_of(out), [unit("img_a.jpg"), unit("img_b.png")], atol=1e-5)


def test_names_with_glob_characters(tmp_path: Path) -> None:
    for name in ("[a].jpg", "[a].txt", "a.txt", "b*.jpg"):
        (tmp_path / name).write_text(name)
    media = read_media_list(tmp_path, urls=False)
    items = list(media.items())
    assert [item.caption.id for item in items] == ["[a].jpg", "a.txt", "b*.jpg"]
    assert items[0].caption.caption == "[a].txt"
    assert list(media.items(2)) == items[2:]
    (tmp_path / "[a].txt").write_text("new")
    assert read_media_list(tmp_path, urls=False).fingerprint != media.fingerprint


def test_a_text_is_the_caption_of_any_file_with_its_stem(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.left.wav", "a.txt", "b.c.jpg", "b.c.txt", "b.txt", "d.txt", "sub/a.txt"):
        (tmp_path / name).touch()
    items = read_media_list(tmp_path, urls=False).items()
    assert [item.caption.id for item in items] == ["a.left.wav", "b.c.jpg", "d.txt", "sub/a.txt"]


# The following tests inspect and change a cache.


def test_eval_draws_its_curves(features: Path, tmp_path: Path) -> None:
    build(features, "--out", tmp_path / "c", "--kind", "IVF4,Flat")
    result = cache("eval", tmp_path / "c", "--count", "20", "--plot", tmp_path / "p.png")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("| cells | refine | recall |")
    assert " * |" in result.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert "top_k" in error_of("eval", tmp_path / "c", "--top-k", "60")


def test_add_and_remove(features: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    np.save(tmp_path / "new.npy", ROWS[:5] + 1)
    (tmp_path / "new.jsonl").write_text("".join(f'{{"id": "n{i}"}}\n' for i in range(5)))
    build(features, "--out", out)
    assert "65 vectors now" in cache("add", out, tmp_path / "new.npy").stdout
    (tmp_path / "gone.txt").write_text("n0\nn3\n\n")
    command = ("remove", out, "--id", "n1", "--row", 0, "--ids-file", tmp_path / "gone.txt")
    assert "61 vectors now; running servers" in cache(*command).stdout
    assert [c.id for c in captions_of(out)[-2:]] == ["n2", "n4"]
    assert "no row has the id 'n1'" in error_of("remove", out, "--id", "n1")
    assert "nothing to remove" in error_of("remove", out, code=2)
    assert "rows of 3 numbers" in error_of("add", out, save(tmp_path / "x.npy", ROWS[:, :3]))


def save(path: Path, rows: np.ndarray) -> Path:
    np.save(path, rows)
    return path


def test_serve_rejects_wrong_options(features: Path, tmp_path: Path) -> None:
    build(features, "--out", tmp_path / "c")
    (tmp_path / "empty").write_text("")
    assert "give a token file" in error_of("serve", tmp_path / "c", "--host", "0.0.0.0")
    assert "expected a token" in error_of(
        "serve", tmp_path / "c", "--token-file", tmp_path / "empty"
    )
    assert "manifest.json" in error_of("serve", tmp_path)


def test_shuffle_writes_a_control(features: Path, tmp_path: Path) -> None:
    build(features, "--out", tmp_path / "cache")
    result = cache("shuffle", tmp_path / "cache", "--out", tmp_path / "control")
    assert "60 vectors in another order" in result.stdout
    assert (rows_of(tmp_path / "cache") != rows_of(tmp_path / "control")).any(axis=1).all()
    message = error_of("shuffle", tmp_path / "cache", "--out", tmp_path / "control")
    assert "exists already" in message
