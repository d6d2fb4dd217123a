"""Run each step as a process with a time limit, and end all processes that a step started.

The engine of a step starts new process groups and sessions. Therefore, this module kills all
descendants of a step, and not only its process group. A process whose parent has died becomes a
child of this process (`adopt_orphans`).
"""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
RELEASE_S = 20  # Time for the driver to release the memory of killed processes.
FREE_MIB = 1500  # Maximum memory in use on a card that runs no program.


@dataclass
class StepProcess:
    name: str
    process: subprocess.Popen[bytes]
    limit_s: float
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0
    status: str = "running"

    @property
    def running(self) -> bool:
        return self.status == "running"

    def poll(self) -> None:
        """Set the status if the process has ended. Kill the process at its time limit."""
        if not self.running:
            return
        self.seconds = time.monotonic() - self.started
        code = self.process.poll()
        if code is not None:
            self.status = "finished" if code == 0 else f"failed (exit code {code})"
        elif self.seconds > self.limit_s:
            kill([self.process.pid, *descendants(self.process.pid)])
            self.process.wait()
            self.status = f"exceeded its limit of {self.limit_s:.0f} s"


def start(
    name: str,
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    limit_s: float,
) -> StepProcess:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return StepProcess(name, process, limit_s)


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent has died (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants() -> None:
    """Kill all processes that this process has started, and their children."""
    for _ in range(5):  # repeat, because a process may start another one before it is killed
        pids = descendants(os.getpid())
        if not pids:
            return
        kill(pids)
        reap()
        time.sleep(0.1)


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    pids, pending = list[int](), [pid]
    while pending:
        below = children.get(pending.pop(), [])
        pids += below
        pending += below
    return pids


def gpu() -> str | None:
    """Return the name and memory of the first GPU; None if there is no GPU."""
    return query("name,memory.total")


def wait_until_free() -> None:
    """Wait until the driver has released the memory of ended processes, at most RELEASE_S."""
    deadline = time.monotonic() + RELEASE_S
    while time.monotonic() < deadline:
        used = query("memory.used")
        if used is None or int(used.split()[0]) < FREE_MIB:
            return
        time.sleep(0.5)


def query(fields: str) -> str | None:
    """Return fields of the first GPU in the form that nvidia-smi prints; None on failure."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return None
    lines = output.stdout.splitlines()
    return lines[0].strip() if output.returncode == 0 and lines else None
