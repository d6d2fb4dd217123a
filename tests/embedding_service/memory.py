"""The memory of a server's processes, and its maximum during a block of code."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.serving.launch import descendants

INTERVAL_S = 2  # reading the memory of all processes takes a fraction of a second of CPU time
MIB = 1 << 20


def memory(pid: int, kind: str = "Rss") -> int:
    """Return the memory of a process in bytes, or 0 if it has ended.

    `kind`: Rss (resident; a page that processes share counts for each), or Pss (such a page counts
    once, in equal parts).
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    match = re.search(rf"^{kind}: +(\d+) kB", text, re.MULTILINE)
    return int(match[1]) << 10 if match else 0


def memory_of_all(pid: int, kind: str = "Rss") -> dict[str, int]:
    """Return the memory in bytes of a process and its descendants, by their modules."""
    result: dict[str, int] = {}
    for each in [pid, *descendants(pid)]:
        result[name_of(each)] = result.get(name_of(each), 0) + memory(each, kind)
    return result


def name_of(pid: int) -> str:
    """Return the last part of the module's name, for example `service` or `cutter`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return "ended"
    modules = [word for word in words if word.startswith("server.")]
    return modules[0].removeprefix("server.") if modules else "other"


@dataclass
class Peak:
    """The largest sum of the processes' memory, and the memory of each at that time."""

    total: int = 0
    parts: dict[str, int] = field(default_factory=dict)

    def update(self, parts: dict[str, int]) -> None:
        if (total := sum(parts.values())) > self.total:
            self.total, self.parts = total, parts


@contextmanager
def watched(pid: int, kinds: tuple[str, ...]) -> Iterator[dict[str, Peak]]:
    """Measure each kind of memory of a process and its descendants every INTERVAL_S seconds."""
    peaks, ended = {kind: Peak() for kind in kinds}, threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL_S):
            for kind, peak in peaks.items():
                peak.update(memory_of_all(pid, kind))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def differences(after: dict[str, int], before: dict[str, int]) -> str:
    """Format the growth of each process in MB (10^6 bytes), with the largest first."""
    names = sorted(after.keys() | before.keys())
    growth = {name: (after.get(name, 0) - before.get(name, 0)) / 1e6 for name in names}
    lines = sorted(growth.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {value:+.1f}" for name, value in lines)
