"""Free memory returns to the system."""

import os
import subprocess
import sys

# Allocates blocks that are too small for separate mappings, and frees all but the last one.
PROGRAM = """
from server.process.heap import trim_heap

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * {page} >> 20

blocks = [bytearray(b"x" * 60_000) for _ in range(2000)]
last = blocks.pop()
del blocks
before = resident()
trim_heap()
print(before - resident())
"""


def test_free_memory_returns_to_the_system() -> None:
    program = PROGRAM.format(page=os.sysconf("SC_PAGE_SIZE"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(done.stdout) > 80
