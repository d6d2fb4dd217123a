"""Confine a decoding process: it can open no file, start no program and open no socket. Linux only.

Landlock forbids files, and seccomp forbids system calls. Both are called through ctypes after all
modules have been imported, and cannot be undone. This module imports no other module of bindserve.
"""

import ctypes
import os
import platform
import struct

LANDLOCK_CREATE, LANDLOCK_RESTRICT, LANDLOCK_VERSION = 444, 446, 1
# version of Landlock -> number of its rights on files (up to version 5)
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
# Landlock's flags. TCP_RIGHTS: bind and connect. SCOPES: abstract Unix sockets and signals to other
# processes.
TCP_RIGHTS, SCOPES = 0b11, 0b11
NETWORK_VERSION, SCOPE_VERSION = 4, 6

SECCOMP_SET_FILTER, SYNC_THREADS = 1, 1
LOAD, EQUAL, AT_LEAST, BITS, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF instructions
ALLOW, ERROR = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x00010000
X32 = 0x40000000  # the numbers of x86-64's second set of system calls (x32) begin here

# Byte offsets of three fields of struct seccomp_data: system call number, architecture, first
# argument.
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16

# machine -> (architecture in seccomp, number of the system call `seccomp`)
MACHINES = {"x86_64": (0xC000003E, 317), "aarch64": (0xC00000B7, 277)}
# name of a system call -> its number on x86-64 and on ARM64 (None: it does not exist)
FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    **{"execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200)},
    **{"kill": (62, 129), "tkill": (200, 130), "pidfd_open": (434, 434)},
    **{"rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
    **{"pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424)},
    **{"open_by_handle_at": (304, 265), "mount": (165, 40), "umount2": (166, 39)},
    **{"pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"io_uring_setup": (425, 425), "keyctl": (250, 219), "add_key": (248, 217)},
    **{"request_key": (249, 218), "init_module": (175, 105), "finit_module": (313, 273)},
}
CLONE, CLONE3, TGKILL, PRLIMIT64 = (56, 220), (435, 435), (234, 131), (302, 261)


def forbid_files() -> bool:
    """Forbid opening files. Files that are already open, and files in memory, stay usable.

    Returns False: when the kernel has no Landlock, or when the process has other threads, which
    Landlock would not confine.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), LANDLOCK_VERSION)
    if version < 1 or len(os.listdir("/proc/self/task")) > 1:
        return False
    rights = (1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1
    attributes = struct.pack("<Q", rights)
    if version >= NETWORK_VERSION:
        attributes += struct.pack("<Q", TCP_RIGHTS)
    if version >= SCOPE_VERSION:
        attributes += struct.pack("<Q", SCOPES)
    # A ruleset without rules forbids everything.
    ruleset = libc.syscall(LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return False
    try:
        return bool(libc.syscall(LANDLOCK_RESTRICT, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def forbid_programs() -> bool:
    """Forbid starting programs and processes, opening sockets, and acting on other processes.

    Returns False: when the kernel has no seccomp, or MACHINES lacks the processor's architecture.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        return False
    program = filter_program(machine, os.getpid())
    instructions = ctypes.create_string_buffer(program, len(program))

    class FilterProgram(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    argument = FilterProgram(len(program) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    number = MACHINES[machine][1]
    done = libc.syscall(number, SECCOMP_SET_FILTER, SYNC_THREADS, ctypes.byref(argument))
    return bool(done == 0)


def filter_program(machine: str, process: int) -> bytes:
    """Assemble the seccomp filter, a BPF program that allows or forbids each system call.
    `process`: the id of this process.
    """
    column = list(MACHINES).index(machine)
    numbers = [each[column] for each in FORBIDDEN.values()]
    deny = _step(RETURN, ERROR | EPERM)
    lines = [_step(LOAD, ARCHITECTURE), _step(EQUAL, MACHINES[machine][0], 1, 0), deny]
    lines += [_step(LOAD, NUMBER), _step(AT_LEAST, X32, 0, 1), deny]
    for number in numbers:
        if number is not None:
            lines += [_step(EQUAL, number, 0, 1), deny]
    # Pretend that `clone3` does not exist, so that the C library starts threads with `clone`, whose
    # flags this program can check: it allows only threads.
    lines += [_step(EQUAL, CLONE3[column], 0, 1), _step(RETURN, ERROR | ENOSYS)]
    lines += [_step(EQUAL, CLONE[column], 0, 4), _step(LOAD, ARGUMENT)]
    lines += [_step(BITS, CLONE_THREAD, 0, 1), _step(RETURN, ALLOW), deny]
    # allowed for the process itself, because `abort` sends a signal to it
    lines += [_step(EQUAL, TGKILL[column], 0, 4), _step(LOAD, ARGUMENT)]
    lines += [_step(EQUAL, process, 1, 0), deny, _step(RETURN, ALLOW)]
    # allowed for the process itself: the C library's `setrlimit` calls `prlimit64` with 0, which
    # means this process
    lines += [_step(EQUAL, PRLIMIT64[column], 0, 4), _step(LOAD, ARGUMENT)]
    lines += [_step(EQUAL, 0, 2, 0), _step(EQUAL, process, 1, 0), deny]
    lines += [_step(RETURN, ALLOW)]
    return b"".join(lines)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """Encode a BPF instruction. `if_true`, `if_false`: how many instructions a jump skips."""
    return struct.pack("<HBBI", code, if_true, if_false, value)
