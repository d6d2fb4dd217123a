"""The start of a process that reads one file: standard input is the file, standard output the answer.

The process has the sandbox and the confinement of a decoding process.
"""

import os
from collections.abc import Callable
from typing import BinaryIO

from server.encoding.decode import confine, sandbox
from server.process.child import die_with_parent


def confined(
    parent: int, memory_bytes: int, prepare: Callable[[], None] = lambda: None
) -> BinaryIO:
    """Confine this process, and return the stream for its answers.

    `parent`: the process id of the parent; this process ends with it. `prepare`: imports the
    modules that no import can reach afterwards.
    """
    die_with_parent(parent)
    # Open the file again: the position of the inherited descriptor is shared with other processes.
    os.dup2(os.open("/proc/self/fd/0", os.O_RDONLY), 0)
    sandbox.never_gain_privileges()
    sandbox.leave_network()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    prepare()
    sandbox.limit_resources(memory_bytes, 0)
    confine.forbid_files()
    confine.forbid_programs()
    return answers
