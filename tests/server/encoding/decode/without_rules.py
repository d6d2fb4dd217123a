"""Remove each rule of the decoding processes' sandbox, and check that a test fails without it.

    python -m tests.server.encoding.decode.without_rules

Changes a copy of the source, one rule at a time, and runs the tests that must fail. Prints one line
for each rule, and exits with status 1 if the tests pass without one of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from server.encoding.decode import confine
from tests.server.encoding.decode import test_filter

ROOT = Path(__file__).parents[4]
FOLDER = "server/encoding/decode"
TESTS = "tests/server/encoding/decode"


@dataclass(frozen=True)
class Rule:
    name: str
    file: str
    text: str
    without: str  # what replaces `text`
    tests: str
    only: str = ""  # pytest's -k


def landlock(bits: int, names: str, variable: str, text: str) -> list[Rule]:
    """Rules for the bits of one of Landlock's masks."""
    listed = names.split(", ")
    assert len(listed) == bits
    return [
        Rule(
            f"Landlock: {name}",
            "confine.py",
            text,
            text.replace(variable, f"({variable} & ~{1 << bit})"),
            "test_confine.py",
            "cannot",
        )
        for bit, name in enumerate(listed)
    ]


FILES = (
    "execute, write to files, read files, read folders, remove folders, remove files,"
    " make character devices, make folders, make files, make sockets, make pipes,"
    " make block devices, make links, move files, truncate"
)
RIGHTS = 'struct.pack("<Q", rights)'
WORKER = "test_confine.py", "every_rule_holds"
RULES = [
    Rule("no new privileges", "sandbox.py", "PR_SET_NO_NEW_PRIVS, 1", "0, 0", "test_sandbox.py"),
    Rule(
        "no network",
        "sandbox.py",
        "return libc.unshare(CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0",
        "return libc is not None",
        "test_sandbox.py",
    ),
    *(
        Rule(
            f"limit of {name}",
            "sandbox.py",
            f"(resource.RLIMIT_{limit}, {value}),",
            "",
            "test_sandbox.py",
        )
        for name, limit, value in (
            ("memory", "AS", "used + memory_bytes"),
            ("file sizes", "FSIZE", "file_bytes"),
            ("core dumps", "CORE", "0"),
            ("open files", "NOFILE", "64"),
        )
    ),
    Rule(
        "limit of CPU time",
        "sandbox.py",
        "resource.setrlimit(resource.RLIMIT_CPU, (until, hard))",
        "del until, hard",
        "test_sandbox.py",
    ),
    *landlock(15, FILES, "rights", RIGHTS),
    *landlock(2, "bind ports, connect to ports", "TCP_RIGHTS", 'struct.pack("<Q", TCP_RIGHTS)'),
    *landlock(2, "abstract sockets, signals", "SCOPES", 'struct.pack("<Q", SCOPES)'),
    Rule("worker: privileges", "worker.py", "sandbox.never_gain_privileges()", "pass", *WORKER),
    Rule(
        "worker: limits",
        "worker.py",
        "sandbox.limit_resources(decoder.settings.memory_bytes, decoder.settings.max_bytes)",
        "pass",
        *WORKER,
    ),
    Rule("worker: files", "worker.py", "confine.forbid_files() &", "", *WORKER),
    Rule("worker: programs", "worker.py", "& confine.forbid_programs()", "", *WORKER),
    Rule("worker: CPU time", "worker.py", "sandbox.allow_cpu(decoder", "str(decoder", *WORKER),
    *(
        Rule(f"cutter: {name}", "cutter.py", text, "pass", "test_confine.py", "cutting")
        for name, text in (
            ("files", "confine.forbid_files()"),
            ("programs", "confine.forbid_programs()"),
            ("limits", "sandbox.limit_resources(job.memory_bytes, 0)"),
        )
    ),
]


def fails_without(rule: Rule, root: Path) -> bool:
    """Whether a test fails in a copy of the source without the rule."""
    path = root / FOLDER / rule.file
    source = path.read_text()
    assert source.count(rule.text) == 1, rule
    path.write_text(source.replace(rule.text, rule.without))
    try:
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider"]
        run = subprocess.run(
            [*command, f"{TESTS}/{rule.tests}", "-k", rule.only],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
        )
    finally:
        path.write_text(source)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return run.returncode == 1


def call_fails_without(name: str, machine: str) -> bool:
    """Whether the test of a system call fails when the filter lacks this call."""
    number = test_filter.number_of(name, machine)
    program = confine.filter_program(machine, test_filter.PROCESS)
    assert number is not None
    # Let the comparison with the call's number compare with a number that no call has.
    there, elsewhere = (confine._step(confine.EQUAL, n, 0, 1) for n in (number, 0x3FFFFFFF))
    assert program.count(there) == 1
    test_filter.filter_program = lambda *_: program.replace(there, elsewhere)
    try:
        test_filter.test_the_call_is_forbidden(name, machine)
    except AssertionError:
        return True
    finally:
        test_filter.filter_program = confine.filter_program
    return False


def main() -> None:
    unnoticed = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("server", "model_ext", "tests", "cache_index"):
            shutil.copytree(
                ROOT / name, root / name, ignore=shutil.ignore_patterns("demo", "*.pyc")
            )
        for file in ("pyproject.toml",):
            shutil.copy(ROOT / file, root)
        results = {rule.name: fails_without(rule, root) for rule in RULES}
    for machine in confine.MACHINES:
        for name in test_filter.CALLS:
            if test_filter.number_of(name, machine) is not None:
                results[f"seccomp ({machine}): {name}"] = call_fails_without(name, machine)
    for name, noticed in results.items():
        print(f"{'a test fails' if noticed else 'NOT NOTICED ':12}  {name}")
        unnoticed += [] if noticed else [name]
    print(f"{len(results)} rules, {len(unnoticed)} not noticed")
    sys.exit(bool(unnoticed))


if __name__ == "__main__":
    main()
