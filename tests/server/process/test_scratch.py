import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from server.process.scratch import (
    MAX_RUN_PATH,
    delete_left_over,
    run_environment,
    run_folder,
    scratch_folder,
)


def test_private_and_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").write_text("secret")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_server_left_is_deleted_and_a_neighbours_is_not(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys; from server.process.scratch import scratch_folder\n"
        "with scratch_folder(pathlib.Path(sys.argv[1])) as f:\n"
        "    (f / 'file').write_text('secret'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "bindserve-files-starting").mkdir()
    (tmp_path / "other").mkdir()
    with scratch_folder(tmp_path) as neighbour:
        delete_left_over(tmp_path)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {neighbour.name, "bindserve-files-starting", "other"}
    assert not left.exists()


def test_sockets_and_temporary_files_are_in_the_scratch_folder() -> None:
    with tempfile.TemporaryDirectory() as scratch, run_folder(Path(scratch)) as folder:
        assert folder == Path(scratch) / "run"
        environment = run_environment(folder)
        assert environment["TMPDIR"] == environment["VLLM_RPC_BASE_PATH"] == str(folder)


def test_a_long_path_of_uploads_does_not_make_socket_paths_too_long(tmp_path: Path) -> None:
    scratch = tmp_path / ("x" * 100)
    scratch.mkdir()
    with run_folder(scratch) as folder:
        assert len(os.fsencode(folder)) <= MAX_RUN_PATH
        assert folder.parent == Path(tempfile.gettempdir())
    assert not folder.exists()


def test_a_long_path_of_the_temporary_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / ("x" * 100)
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with pytest.raises(OSError, match="too long for sockets: set TMPDIR"), run_folder(scratch):
        pass
    assert not list(scratch.iterdir())


def test_a_read_only_home_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").write_text("not a folder")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    environment = run_environment(tmp_path)
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torchinductor")


def test_a_user_without_a_home_folder_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    environment = run_environment(tmp_path)
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "torchinductor")


def test_compiled_kernels_are_in_the_users_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    environment = run_environment(tmp_path)
    expected = tmp_path / "caches" / "bindserve" / "torchinductor"
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == str(expected)
