"""Start-up errors that `serve` reports before it imports vLLM, which takes seconds."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from model_ext.errors import ConfigError
from server.cli.preflight import check
from server.engine.exposure import UsageError
from server.settings import Settings


def settings(*flags: str, **others: object) -> Settings:
    return Settings(model=Path("m"), vllm_args=flags, **{"port": 0, **others})  # type: ignore[arg-type]


def test_a_free_port() -> None:
    check(settings())
    check(settings(host="::1"))
    check(settings(host="localhost"))


@pytest.mark.parametrize("listens", [True, False])
def test_a_busy_port_is_named(listens: bool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        if listens:
            other.listen()
        port = other.getsockname()[1]
        message = f"cannot listen on port {port} of 127.0.0.1: Address already in use"
        with pytest.raises(OSError, match=message):
            check(settings(port=port))
        with pytest.raises(OSError, match=str(port)):
            check(settings("--port", str(port)))
    check(settings(port=port))


def test_a_port_in_time_wait_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        client = socket.create_connection(address)
        # Because the server closes the connection first, its port is in state TIME_WAIT.
        listener.accept()[0].close()
        client.close()
    check(settings(port=address[1]))


def test_an_address_of_another_machine() -> None:
    with pytest.raises(OSError, match=r"of 192\.0\.2\.1: Cannot assign"):
        check(settings(host="192.0.2.1", no_auth=True))


def test_an_open_server_needs_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = tmp_path / "keys"
    for open_settings in (settings(host="0.0.0.0"), settings("--host=0.0.0.0")):
        with pytest.raises(UsageError, match=r"0\.0\.0\.0.*--no-auth"):
            check(open_settings)
    check(settings(host="0.0.0.0", no_auth=True))
    check(settings("--api-key", "a", "b", host="0.0.0.0"))
    check(settings("--uds", "socket", host="0.0.0.0"))
    keys.write_text("key\n")
    check(settings(host="0.0.0.0", api_key_file=keys))
    monkeypatch.setenv("VLLM_API_KEY", "key")
    check(settings(host="0.0.0.0"))


def test_vllms_own_file_may_set_the_keys() -> None:
    check(settings("--config", "vllm.yaml", host="0.0.0.0"))


def test_a_bad_key_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"--api-key-file .*: No such file"):
        check(settings(api_key_file=tmp_path / "keys"))
    (tmp_path / "keys").write_text("# none\n")
    with pytest.raises(ValueError, match="contains no API key"):
        check(settings(api_key_file=tmp_path / "keys"))


def serve(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run `serve`, which must not import vLLM. Return its exit status and error output."""
    code = (
        "import sys\nfrom server.cli.main import main\n"
        "try:\n    main()\nfinally:\n    assert not {'vllm', 'torch'} & sys.modules.keys()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "serve", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.returncode, result.stderr


def test_serve_reports_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, error = serve(tmp_path, "--port", str(port))
    assert (status, error.count("\n")) == (1, 1)
    assert error.startswith(f"error: cannot listen on port {port} ")
    status, error = serve(tmp_path, "--host", "0.0.0.0")
    assert (status, error.count("\n"), "API key" in error) == (2, 1, True)
    (tmp_path / "keys").write_text("")
    status, error = serve(tmp_path, "--api-key-file", str(tmp_path / "keys"))
    assert (status, error.count("\n"), "no API key" in error) == (1, 1, True)
    assert serve(tmp_path / "none")[0] == 2


def test_a_decoder_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"--decoder model: m/decoders/image has no config\.json"):
        check(settings(decoder="model"))
    with pytest.raises(OSError, match="--decoder"):
        check(settings(decoder=str(tmp_path)))
    (tmp_path / "model_index.json").touch()
    check(settings(decoder=str(tmp_path)))


def test_a_side_model_that_cannot_be_loaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match=r"no model\.bin"):
        check(settings(speech_model=tmp_path))
    (tmp_path / "model.bin").touch()
    check(settings(speech_model=tmp_path, ocr=True, voice=True))
    with pytest.raises(ConfigError, match=r"config\.json: not an image classifier"):
        check(settings(objects=str(tmp_path)))
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"]}')
    check(settings(objects=str(tmp_path)))
    with pytest.raises(OSError, match="nowhere"):
        check(settings(objects="detector", detector=tmp_path, objects_labels=Path("nowhere")))
    with pytest.raises(ConfigError, match="model_type must be one of"):
        check(settings(detector=tmp_path))
    with pytest.raises(OSError, match="nowhere"):
        check(settings(detector=Path("nowhere")))
    monkeypatch.setattr("server.cli.preflight.find_spec", lambda _name: None)
    with pytest.raises(OSError, match=r"rapidocr is missing; install bindserve\[ocr\]"):
        check(settings(ocr=True))
