"""Each rule of the decoding sandbox, tested in a separate process."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


def run(code: str, *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    source = "from server.encoding.decode import sandbox\n" + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", source],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_memory_is_bounded_from_here_on() -> None:
    result = run("""
        sandbox.limit_resources(64 << 20, 0)
        bytearray(16 << 20)
        try:
            bytearray(128 << 20)
        except MemoryError:
            print("refused")
    """)
    assert result.stdout == "refused\n"


def test_no_large_file_can_be_written(tmp_path: Path) -> None:
    result = run(
        """
        sandbox.limit_resources(64 << 20, 4)
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with open("file", "wb", buffering=0) as file:
                file.write(b"xxxx")
                file.write(b"x")
        except OSError:
            print("refused")
        """,
        cwd=tmp_path,
    )
    assert result.stdout == "refused\n"
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [4]


def test_the_number_of_open_files_is_bounded() -> None:
    result = run("""
        import os
        sandbox.limit_resources(64 << 20, 0)
        files = []
        try:
            while len(files) < 1000:
                files.append(os.memfd_create("file"))
        except OSError:
            print("refused", len(files) < 64)
    """)
    assert result.stdout == "refused True\n"


def test_a_crash_writes_no_memory_to_disk() -> None:
    result = run("""
        import resource
        sandbox.limit_resources(64 << 20, 0)
        print(resource.getrlimit(resource.RLIMIT_CORE))
    """)
    assert result.stdout == "(0, 0)\n"


def test_no_program_can_give_privileges() -> None:
    result = run("""
        sandbox.never_gain_privileges()
        print("NoNewPrivs:\\t1\\n" in open("/proc/self/status").read())
    """)
    assert result.stdout == "True\n"


def test_cpu_time_is_bounded_for_each_job() -> None:
    result = run("""
        import time
        def burn(seconds):
            until = time.process_time() + seconds
            while time.process_time() < until:
                pass
        for job in range(2):
            sandbox.allow_cpu(1)
            burn(0.8)
        print("two jobs", flush=True)
        sandbox.allow_cpu(1)
        burn(30)
        print("not reached")
    """)
    assert result.stdout == "two jobs\n"
    assert result.returncode < 0


def test_a_worker_without_its_parent_ends() -> None:
    result = run(
        "from server.process.child import die_with_parent\ndie_with_parent(1)\nprint('not reached')"
    )
    assert (result.stdout, result.returncode) == ("", 1)


def test_there_is_no_network_where_the_kernel_allows() -> None:
    result = run("""
        import socket
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            if not sandbox.leave_network():
                print("not allowed")
            else:
                try:
                    socket.create_connection(("127.0.0.1", port), 5)
                    print("connected")
                except OSError:
                    print("refused")
    """)
    if result.stdout == "not allowed\n":
        pytest.skip("this kernel does not let an ordinary process leave its network")
    assert result.stdout == "refused\n", result.stderr
