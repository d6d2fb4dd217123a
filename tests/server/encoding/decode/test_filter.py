"""The seccomp filter forbids each system call of a list, on both architectures. A simulator of BPF
runs the filter, because many of these calls also fail without it.
"""

import re
import struct
from pathlib import Path

import pytest

from server.encoding.decode import confine
from server.encoding.decode.confine import (
    ALLOW,
    ARGUMENT,
    AT_LEAST,
    BITS,
    CLONE_THREAD,
    ENOSYS,
    EPERM,
    EQUAL,
    ERROR,
    LOAD,
    MACHINES,
    NUMBER,
    RETURN,
    X32,
    filter_program,
)

NAMES = (
    "execve execveat fork vfork ptrace process_vm_readv process_vm_writev socket socketpair connect"
    " bind kill tkill pidfd_open rt_sigqueueinfo rt_tgsigqueueinfo pidfd_getfd pidfd_send_signal"
    " open_by_handle_at mount umount2 pivot_root chroot unshare setns bpf perf_event_open"
    " userfaultfd io_uring_setup keyctl add_key request_key init_module finit_module"
)
CALLS = NAMES.split()
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
PROCESS, I386 = 4321, 0x40000003
DENIED = ERROR | EPERM
# Numbers of calls that the C library or the decoders need: read, futex, recvmsg, exit_group
NEEDED = {"x86_64": (0, 202, 47, 231), "aarch64": (63, 98, 212, 94)}

machines = pytest.mark.parametrize("machine", MACHINES)


def verdict(
    machine: str, number: int, argument: int = 0, *, architecture: int | None = None
) -> int:
    """Run the filter for a system call, and return what it answers."""
    program = filter_program(machine, PROCESS)
    fields = {
        NUMBER: number,
        confine.ARCHITECTURE: architecture or MACHINES[machine][0],
        ARGUMENT: argument,
    }
    position = value = 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("<HBBI", program, 8 * position)
        position += 1
        if code == LOAD:
            value = fields[operand]
            continue
        if code == RETURN:
            return int(operand)
        tests = {EQUAL: value == operand, AT_LEAST: value >= operand, BITS: bool(value & operand)}
        position += if_true if tests[code] else if_false


def number_of(name: str, machine: str) -> int | None:
    special = {"clone": confine.CLONE, "clone3": confine.CLONE3}
    special |= {"tgkill": confine.TGKILL, "prlimit64": confine.PRLIMIT64}
    return (confine.FORBIDDEN | special)[name][list(MACHINES).index(machine)]


@machines
@pytest.mark.parametrize("name", CALLS)
def test_the_call_is_forbidden(name: str, machine: str) -> None:
    number = number_of(name, machine)
    if number is None:
        assert (machine, name) in [("aarch64", "fork"), ("aarch64", "vfork")]
        return
    assert verdict(machine, number) == DENIED


@machines
def test_the_numbers_are_those_of_the_kernel(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[machine].read_text()
    numbers = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))
    for name in [*CALLS, "clone", "clone3", "tgkill", "prlimit64"]:
        assert number_of(name, machine) == (int(numbers[name]) if name in numbers else None), name


@machines
def test_all_other_calls_are_allowed(machine: str) -> None:
    special = ("clone", "clone3", "tgkill", "prlimit64")
    ruled = {number_of(name, machine) for name in [*CALLS, *special]}
    assert not ruled & set(NEEDED[machine])
    assert {verdict(machine, number) for number in set(range(500)) - ruled} == {ALLOW}


@machines
def test_calls_of_another_architecture_are_forbidden(machine: str) -> None:
    (read, *_) = NEEDED[machine]
    assert verdict(machine, read, architecture=I386) == DENIED
    assert verdict(machine, read | X32) == DENIED


@machines
def test_only_threads_can_be_started(machine: str) -> None:
    clone, clone3 = number_of("clone", machine), number_of("clone3", machine)
    assert clone is not None
    assert clone3 is not None
    assert verdict(machine, clone, CLONE_THREAD | 0x100) == ALLOW
    assert verdict(machine, clone, 0x100) == DENIED
    assert verdict(machine, clone3) == ERROR | ENOSYS


@machines
def test_signals_and_limits_only_for_the_process_itself(machine: str) -> None:
    tgkill, prlimit = number_of("tgkill", machine), number_of("prlimit64", machine)
    assert tgkill is not None
    assert prlimit is not None
    assert [verdict(machine, tgkill, n) for n in (PROCESS, PROCESS + 1)] == [ALLOW, DENIED]
    assert [verdict(machine, prlimit, n) for n in (0, PROCESS)] == [ALLOW, ALLOW]
    assert verdict(machine, prlimit, PROCESS + 1) == DENIED
