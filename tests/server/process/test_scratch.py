import subprocess
import sys
from pathlib import Path

from server.process.scratch import delete_left_over, scratch_folder


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
