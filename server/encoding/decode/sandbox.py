"""The sandbox of a decoding process: limits on network, privileges and resources. Linux only.

The process calls these functions before it imports large packages, which start threads: the kernel
lets only a process with one thread leave the network. This module imports no other module of
bindserve.
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
    """Move the process into an empty network namespace. Returns False if the kernel does not allow
    this.
    """
    libc = _libc()
    return libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0


def limit_resources(memory_bytes: int, file_bytes: int) -> None:
    """Limit the process's address space, file sizes and number of descriptors.

    `memory_bytes`: address space in addition to its current use. `file_bytes`: the maximum size of
    a file that the process writes. This limit also applies to files in memory, from which some
    decoders read their input.
    """
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    for resource_kind, limit in (
        (resource.RLIMIT_AS, used + memory_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(resource_kind, (limit, limit))


def allow_cpu(seconds: float) -> None:
    """Allow one job `seconds` of CPU time from now on. After that, SIGXCPU ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
