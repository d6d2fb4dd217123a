"""A confined process cannot open files, start programs or reach other processes."""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest

from server.encoding.decode.confine import LANDLOCK_CREATE, LANDLOCK_VERSION
from server.encoding.decode.cut_job import CutJob
from server.encoding.decode.pool import DecodePool, MediaError, worker_environment
from server.media.blob import MemoryBlob
from tests.corpus import FOLDER
from tests.server.encoding.decode.test_pool import running

ROOT = Path(__file__).parents[4]
JOB = CutJob(
    **{"modality": "audio", "seconds": 2, "stride": 1, "max_seconds": 100, "max_windows": 100},
    **{"frames": 2, "max_pixels": 1 << 20, "max_window_bytes": 1 << 24},
    **{"max_channels": 2, "max_rate": 48_000, "max_samples": 100_000},
    **{"memory_bytes": 1 << 30, "cpu_s": 5},
)
SAMPLES = sorted(FOLDER.glob("*-a-*"))

# name of an attack -> (code that a hostile file might run, the `forbid_` function that prevents it)
ATTACKS = {
    "read a file": ("open('/etc/passwd')", "files"),
    "read a file of the process": ("open('/proc/self/environ')", "files"),
    "list a folder": ("os.listdir('/')", "files"),
    "write a file": ("open('written', 'w')", "files"),
    "reopen a descriptor": ("open('/proc/self/fd/%d' % passed)", "files"),
    "overwrite a file": ("os.open('victim', os.O_WRONLY)", "files"),
    "truncate a file": ("os.truncate('victim', 0)", "files"),
    "delete a file": ("os.unlink('victim')", "files"),
    "delete a folder": ("os.rmdir('folder')", "files"),
    "make a file": ("os.mknod('made')", "files"),
    "make a folder": ("os.mkdir('made')", "files"),
    "make a link": ("os.symlink('victim', 'made')", "files"),
    "make a pipe": ("os.mkfifo('made')", "files"),
    "make a socket's file": ("os.mknod('made', stat.S_IFSOCK)", "files"),
    "make a character device": ("os.mknod('made', stat.S_IFCHR, os.makedev(1, 3))", "files"),
    "make a block device": ("os.mknod('made', stat.S_IFBLK, os.makedev(1, 1))", "files"),
    "execute a file": ("os.execv('/bin/sh', ['sh', '-c', 'exit 3'])", "files"),
    "listen on a port": ("socket.create_server(('127.0.0.1', 0))", "files"),
    "connect to a port": ("socket.create_connection(port.getsockname())", "files"),
    "connect to an abstract socket": (
        "socket.socket(socket.AF_UNIX).connect(abstract.getsockname())",
        "files",
    ),
    "send a signal to a process outside": ("os.kill(os.getppid(), 0)", "files"),
    "start a program": ("os.execv('/bin/sh', ['sh', '-c', 'exit 3'])", "programs"),
    "fork": ("os.fork()", "programs"),
    "open a socket": ("socket.socket()", "programs"),
    "open a unix socket": ("socket.socketpair()", "programs"),
    "send a signal": ("os.kill(os.getppid(), 0)", "programs"),
    "queue a signal": ("check(libc.syscall(QUEUE, os.getppid(), 0, signal))", "programs"),
    "queue a signal for a thread": (
        "check(libc.syscall(QUEUE_THREAD, os.getppid(), os.getppid(), 0, signal))",
        "programs",
    ),
    "limit a process": ("resource.prlimit(os.getppid(), resource.RLIMIT_CORE)", "programs"),
    "trace": ("check(libc.ptrace(SEIZE, victim, 0, 0))", "programs"),
    "leave": ("check(libc.unshare(0x10000000))", "programs"),
}
# name of an attack -> the version of Landlock that prevents it, if not the first one
VERSIONS = {
    "truncate a file": 3,
    **dict.fromkeys(["listen on a port", "connect to a port"], 4),
    **dict.fromkeys(["connect to an abstract socket", "send a signal to a process outside"], 6),
}
# Exit statuses: 0 if the kernel forbids the attack, 3 if the attack succeeds, 77 if the kernel
# cannot confine a process. The child process `victim` ends when its parent ends and closes the
# pipe.
CODE = """
import ctypes, os, platform, resource, socket, stat, struct, threading
from server.encoding.decode import confine, sandbox
libc = ctypes.CDLL(None, use_errno=True)
SEIZE = 0x4206
QUEUE, QUEUE_THREAD = (129, 297) if platform.machine() == "x86_64" else (138, 240)
signal = struct.pack("3i116x", 0, 0, -1)
def check(result):
    if result < 0: raise PermissionError(ctypes.get_errno())
reader, writer = os.pipe()
victim = os.fork()
if not victim:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
open("victim", "w").close()
os.mkdir("folder")
port = socket.create_server(("127.0.0.1", 0))
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0%d" % os.getpid())
abstract.listen()
passed = os.open("victim", os.O_RDONLY)
sandbox.never_gain_privileges()
if not ({confined}): raise SystemExit(77)
try:
    {attack}
except PermissionError:
    raise SystemExit(0)
raise SystemExit(3)
"""
CONFINED = "confine.forbid_files() & confine.forbid_programs()"


def landlock_version() -> int:
    libc = ctypes.CDLL(None)
    return int(libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), LANDLOCK_VERSION))


def status(code: str, folder: Path) -> int:
    folder = Path(tempfile.mkdtemp(dir=folder))
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.PIPE
    ).returncode


def run(code: str, folder: Path) -> int:
    if (result := status(code, folder)) == 77:
        pytest.skip("this kernel does not confine processes")
    return result


@pytest.mark.parametrize("name", ATTACKS)
def test_a_confined_process_cannot(name: str, tmp_path: Path) -> None:
    """Also run the attack without confinement. There it must succeed, or the test would prove
    nothing.
    """
    attack, rule = ATTACKS[name]
    if landlock_version() < VERSIONS.get(name, 1):
        pytest.skip("the kernel's Landlock is too old")
    if status(CODE.format(attack=attack, confined=True), tmp_path) != 3:
        pytest.skip("the attack fails here without confinement, too")
    assert run(CODE.format(attack=attack, confined=f"confine.forbid_{rule}()"), tmp_path) == 0


# code -> the exception that it raises in a decoding process
IN_A_WORKER = {
    "open('/etc/passwd')": "PermissionError",
    "os.fork()": "PermissionError",
    "socket.socket()": "PermissionError",
    "bytearray(1 << 30)": "MemoryError",
    "file = os.memfd_create('x'); os.write(file, bytes(1 << 20)); os.write(file, b'x')": "OSError",
    "[os.memfd_create('x') for _ in range(100)]": "OSError",
    "assert resource.getrlimit(resource.RLIMIT_CORE) != (0, 0)": "AssertionError",
    "assert libc.prctl(39, 0, 0, 0, 0) != 1": "AssertionError",
}


async def test_every_rule_holds_in_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if status(CODE.format(attack="pass", confined=CONFINED), tmp_path) == 77:
        pytest.skip("this kernel does not confine processes")
    monkeypatch.setattr("server.encoding.decode.pool.WORKER", "tests.server.attacking_worker")
    async with running(memory_bytes=256 << 20, max_bytes=1 << 20, timeout_s=1) as pool:
        for code, error in IN_A_WORKER.items():
            with pytest.raises(MediaError) as caught:
                await pool.decode(code, MemoryBlob(b""))
            assert caught.value.message == error, code
        with pytest.raises(MediaError, match="more than 1 seconds of CPU time"):
            await pool.decode("while True: pass", MemoryBlob(b""))


@pytest.mark.parametrize("attack", ["open('/etc/passwd')", "os.fork()", "bytearray(2 << 30)"])
@pytest.mark.parametrize("head", [b"", b"\x1a\x45\xdf\xa3\x42\x82\x88matroska"], ids=["", "video"])
def test_a_cutting_process_is_confined(attack: str, head: bytes, tmp_path: Path) -> None:
    if status(CODE.format(attack="pass", confined=CONFINED), tmp_path) == 77:
        pytest.skip("this kernel does not confine processes")
    code = f"""
import os, sys
from server.encoding.decode import cutter
def attack(*_):
    try:
        {attack}
    except (PermissionError, MemoryError):
        os._exit(0)
    os._exit(3)
cutter.write_windows = attack
sys.argv[1:] = [str(os.getppid()), {json.dumps(json.dumps(asdict(JOB)))}]
cutter.main()
"""
    (tmp_path / "file").write_bytes(head)
    with open(tmp_path / "file", "rb") as file:
        child = subprocess.run(
            [sys.executable, "-c", code],
            stdin=file,
            capture_output=True,
            env=worker_environment(),
        )
    assert child.returncode == 0, child.stderr.decode()


@pytest.mark.parametrize(
    "work",
    [
        "t = threading.Thread(target=str); t.start(); t.join()",
        "f = os.memfd_create('x'); open('/proc/self/fd/%d' % f, 'rb').read()",
        "os.read(passed, 10)",
        "resource.setrlimit(resource.RLIMIT_CPU, (60, resource.getrlimit(resource.RLIMIT_CPU)[1]))",
        "resource.prlimit(os.getpid(), resource.RLIMIT_CPU)",
    ],
)
def test_a_confined_process_can_still_decode(work: str, tmp_path: Path) -> None:
    assert run(CODE.format(attack=work, confined=CONFINED), tmp_path) == 3


async def decoded(pool: DecodePool, path: Path) -> str:
    sample = await pool.decode(path.name.split("-")[0], MemoryBlob(path.read_bytes()))
    return sample.modality


async def test_a_confined_worker_reads_every_format_of_the_corpus(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A confined process cannot open the file of a module, so all modules must have been imported
    before.
    """
    possible = status(CODE.format(attack="pass", confined=CONFINED), tmp_path) != 77
    async with running() as pool:
        assert ("does not confine" in caplog.text) != possible
        for path in SAMPLES:
            assert await decoded(pool, path) == path.name.split("-")[0], path.name
