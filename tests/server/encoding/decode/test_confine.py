"""A confined process cannot open files, start programs or reach other processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.encoding.decode.confine import MACHINES, filter_program
from server.encoding.decode.pool import DecodePool
from server.media.blob import MemoryBlob
from tests.corpus import FOLDER
from tests.server.encoding.decode.test_pool import running

ROOT = Path(__file__).parents[4]
SAMPLES = sorted(FOLDER.glob("*-a-*"))

# name of an attack -> (code that hostile media might run, the `forbid_` function that prevents it)
ATTACKS = {
    "read a file": ("open('/etc/passwd')", "files"),
    "read a file of the process": ("open('/proc/self/environ')", "files"),
    "list a folder": ("os.listdir('/')", "files"),
    "write a file": ("open('written', 'w')", "files"),
    "reopen a descriptor": ("open('/proc/self/fd/%d' % passed)", "files"),
    "delete a file": ("os.unlink('victim')", "files"),
    "start a program": ("os.execv('/bin/true', ['true'])", "programs"),
    "fork": ("os.fork()", "programs"),
    "open a socket": ("socket.socket()", "programs"),
    "open a unix socket": ("socket.socketpair()", "programs"),
    "send a signal": ("os.kill(os.getppid(), 0)", "programs"),
    "trace": ("check(libc.ptrace(16, os.getppid(), 0, 0))", "programs"),
    "leave": ("check(libc.unshare(0x10000000))", "programs"),
}
CODE = """
import ctypes, os, socket, threading
from server.encoding.decode import confine, sandbox
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0: raise PermissionError(ctypes.get_errno())
open("victim", "w").close()
passed = os.open("victim", os.O_RDONLY)
sandbox.never_gain_privileges()
if not confine.forbid_{rule}(): raise SystemExit(77)
try:
    {attack}
except PermissionError:
    raise SystemExit(0)
raise SystemExit(1)
"""


def run(code: str, folder: Path) -> int:
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, stderr=subprocess.PIPE
    )
    if child.returncode == 77:
        pytest.skip("this kernel does not confine processes")
    return child.returncode


@pytest.mark.parametrize("name", ATTACKS)
def test_a_confined_process_cannot(name: str, tmp_path: Path) -> None:
    attack, rule = ATTACKS[name]
    assert run(CODE.format(attack=attack, rule=rule), tmp_path) == 0


@pytest.mark.parametrize(
    "work",
    [
        "t = threading.Thread(target=str); t.start(); t.join()",
        "f = os.memfd_create('x'); open('/proc/self/fd/%d' % f, 'rb').read()",
        "os.read(passed, 10)",
    ],
)
def test_a_confined_process_can_still_decode(work: str, tmp_path: Path) -> None:
    code = CODE.format(attack="pass", rule="files() & confine.forbid_programs")
    code = code.replace("    pass\n", f"    {work}\n").replace("SystemExit(1)", "SystemExit(42)")
    assert run(code, tmp_path) == 42


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_has_whole_instructions_and_its_jumps_stay_inside(machine: str) -> None:
    program = filter_program(machine, os.getpid())
    assert len(program) % 8 == 0
    count = len(program) // 8
    for index in range(count):
        code, if_true, if_false = program[8 * index], *program[8 * index + 2 : 8 * index + 4]
        if code & 7 == 5:
            assert index + 1 + max(if_true, if_false) < count


async def decoded(pool: DecodePool, path: Path) -> str:
    sample = await pool.decode(path.name.split("-")[0], MemoryBlob(path.read_bytes()))
    return sample.modality


async def test_a_confined_worker_reads_every_format_of_the_corpus() -> None:
    """If a reader imported a module only now, the confined process could not open the module's
    file.
    """
    async with running() as pool:
        for path in SAMPLES:
            assert await decoded(pool, path) == path.name.split("-")[0], path.name
