"""What a decoding worker gives up before it looks at a client's bytes. Linux; no dependencies.

Called in the worker, before anything heavy is imported: leaving the network needs a process
with one thread.
"""

import ctypes
import resource

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_NO_NEW_PRIVS = 38


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def never_gain_privileges() -> None:
    _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def leave_network() -> bool:
    """Move to a network of its own, with no way out; False where the kernel does not allow it."""
    libc = _libc()
    return libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0


def limit_resources(memory_bytes: int, file_bytes: int) -> None:
    """So much address space more than now; small files, no core dumps, few descriptors.

    `file_bytes`: a decoder that reads files only gets one in memory, which counts as a file.
    """
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, used + memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (most, most))


def allow_cpu(seconds: float) -> None:
    """From now on; SIGXCPU ends the process when they are used up. Called for each job."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
