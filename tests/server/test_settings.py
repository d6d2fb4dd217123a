"""Settings: the precedence of flag, environment, file and default, and the errors for
wrong keys.
"""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_the_order_of_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "port: 1\nhost: file\nencode_batch: 3\nmodel: m\n")
    monkeypatch.setenv("BINDSERVE_PORT", "2")
    monkeypatch.setenv("BINDSERVE_HOST", "environment")
    settings = Settings.load(config=config, port=4, host=None)
    assert (settings.port, settings.host, settings.encode_batch) == (4, "environment", 3)
    assert settings.max_attachments == 16


def test_the_file_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, "port: 1\nmodel: m")
    monkeypatch.setenv("BINDSERVE_CONFIG", str(config))
    assert Settings.load().port == 1


def test_lists_from_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, "model: m\nvllm_args: [--max-model-len, '512']")
    assert Settings.load(config=config).vllm_args == ("--max-model-len", "512")
    monkeypatch.setenv("BINDSERVE_VLLM_ARGS", """--seed 1 --x '{"a": 1}'""")
    monkeypatch.setenv("BINDSERVE_ALLOW_FIELDS", "vllm_xargs chat_template")
    settings = Settings.load(config=config)
    assert settings.vllm_args == ("--seed", "1", "--x", '{"a": 1}')
    assert settings.allow_fields == ("vllm_xargs", "chat_template")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour: blue", "colour"),
        ("port: many", "port"),
        ("port: 70000", "port"),
        ("allow_fields: [messages]", "allow_fields"),
        ("decode_workers: 0", "decode_workers"),
        ("limits: {image_bites: 1}", "limits"),
    ],
)
def test_an_error_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.load(config=write(tmp_path, f"model: m\n{text}"))
    assert caught.value.errors()[0]["loc"][0] == key


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        Settings.load(config=Path("nowhere.yaml"), model=Path("m"))


def test_limits_are_read_by_key(tmp_path: Path) -> None:
    config = write(tmp_path, "model: m\nlimits: {image_bytes: 5}")
    limits = Settings.load(config=config).limits
    assert (limits.image_bytes, limits.audio_seconds) == (5, 600)


def test_settings_do_not_change() -> None:
    settings = Settings(model=Path("m"))
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_the_name_of_the_model(tmp_path: Path) -> None:
    assert Settings(model=tmp_path / "a" / ".." / "seven").name == "seven"
    assert Settings(model=tmp_path, served_model_name="x").name == "x"


def test_default_experts_must_be_enabled(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="speech, which is not enabled"):
        Settings(model=tmp_path, experts="speech ocr", ocr=True)  # type: ignore[arg-type]
    settings = Settings(model=tmp_path, experts="ocr", ocr=True)  # type: ignore[arg-type]
    assert settings.experts == ("ocr",)


def test_the_expert_for_objects_needs_what_recognizes_them(tmp_path: Path) -> None:
    model = tmp_path / "m"
    with pytest.raises(ValidationError, match="objects, which is not enabled"):
        Settings(model=model, experts=("objects",))
    with pytest.raises(ValidationError, match="no detector"):
        Settings(model=model, objects="detector")
    with pytest.raises(ValidationError, match="objects_labels needs"):
        Settings(model=model, objects="folder", objects_labels=tmp_path)
    by_detector = Settings(model=model, objects="detector", detector=tmp_path)
    by_classifier = Settings(model=model, objects="folder", experts=("objects",), ocr=True)
    assert by_detector.enabled_experts == ("objects",)
    assert by_classifier.enabled_experts == ("ocr", "objects")
    assert by_detector.classifier_folder is None
    assert by_classifier.classifier_folder == Path("folder")
