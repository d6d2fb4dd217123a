"""Run all measurements and tests that need a GPU, in at most nine minutes on one card.

    python deploy/gpu_check.py --out build/gpu-check [--only engine] [--only goldens]

Each step is a process with a time limit. The program writes the results to a JSON file and a
table. A second run with other steps adds its results to the same files. The exit code is 0 when
every step finished and reached its goals, 1 otherwise, and 2 on a usage error.

On a machine without a GPU the same steps run with tiny shapes, and speeds have no goals.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # import from the repository and not from this folder

# these imports need the path above
from deploy.gpu import processes, report  # noqa: E402
from deploy.gpu.report import StepResult  # noqa: E402
from deploy.gpu.rows import Size, read_rows  # noqa: E402

POLL_S = 0.2
SAVE_S = 5
TAIL_BYTES = 8000
PLUGIN_GROUP, PLUGIN = "vllm.general_plugins", "model_ext.plugin:register"
TOTAL_S = 540  # Time limit of all steps together on a GPU.
# Time limits are multiplied by this factor on a machine without a GPU.
SLOWER = 6


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    module: str
    limit_s: float  # time limit on a GPU
    arguments: tuple[str, ...] = ()


# The most important steps are first. On a GPU, the steps of a group run at the same time. A step
# that measures speed starts its engines and then waits until the group's other steps have ended.
GROUPS = (
    (
        Step("engine", "deploy.gpu.engine", 360),
        Step("goldens", "tests.serving.goldens", 180),
        Step("isolation", "tests.serving.isolation", 220),
    ),
    (Step("encoders", "deploy.gpu.encoders", 90),),
    (Step("retrieval", "deploy.gpu.retrieval", 60),),
    (Step("server", "deploy.gpu.serving", 270),),
    (Step("start-up", "deploy.gpu.start_up", 150),),
)
# Steps that measure speed. Each of them waits until no other step runs.
MEASURED = {"engine", "encoders", "retrieval", "server", "start-up"}
NAMES = [step.name for group in GROUPS for step in group]


@dataclass
class Run:
    out: Path
    work: Path
    machine: str
    size: Size
    deadline: float
    extra: dict[str, list[str]]  # additional arguments by step
    environment: dict[str, str]
    commit: str = field(default_factory=lambda: commit())

    def group(self, steps: Sequence[Step]) -> list[StepResult]:
        """Run the steps at the same time, and write their results."""
        quiet = self.work / "quiet"
        quiet.unlink(missing_ok=True)
        running = [self.start(step) for step in steps]
        next_save = 0.0
        while any(step.running for step in running):
            for step in running:
                step.poll()
            if not any(step.running and step.name not in MEASURED for step in running):
                quiet.touch()
            if time.monotonic() >= next_save:  # save now, because this run may be killed later
                report.save(self.out, [self.result(step) for step in running], NAMES)
                next_save = time.monotonic() + SAVE_S
            time.sleep(POLL_S)
        processes.kill_descendants()
        processes.wait_until_free()
        results = [self.result(step) for step in running]
        report.save(self.out, results, NAMES)
        for result in results:
            print(f"{result.name}: {result.status}, {result.seconds:.0f} s", flush=True)
            if not result.passed:
                print(result.log_tail, flush=True)
        return results

    def start(self, step: Step) -> processes.StepProcess:
        limit = step.limit_s * (1 if self.size == "full" else SLOWER)
        limit = max(1.0, min(limit, self.deadline - time.monotonic()))
        folder = self.work / step.name
        folder.mkdir()
        command = [sys.executable, "-m", step.module, f"--rows={folder / 'rows'}"]
        command += [f"--size={self.size}", f"--work={folder}", f"--quiet={self.work / 'quiet'}"]
        command += self.extra.get(step.name, [])
        print(f"{step.name}: started, at most {limit:.0f} s", flush=True)
        return processes.start(step.name, command, ROOT, self.environment, folder / "log", limit)

    def result(self, step: processes.StepProcess) -> StepResult:
        folder = self.work / step.name
        rows = tuple(read_rows(folder / "rows"))
        log = (folder / "log").read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        return StepResult(
            step.name, step.status, step.seconds, self.machine, self.commit, rows, log
        )


def python_path(work: Path) -> str:
    """Return the PYTHONPATH of the steps: this checkout and, unless bindserve is installed,
    metadata that register its vLLM plugin.
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    if not any(each.value == PLUGIN for each in entry_points(group=PLUGIN_GROUP)):
        metadata = work / "plugin" / "bindserve-0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bindserve\nVersion: 0\n")
        (metadata / "entry_points.txt").write_text(f"[{PLUGIN_GROUP}]\nbindserve = {PLUGIN}\n")
        paths.insert(1, str(metadata.parent))
    return os.pathsep.join(filter(None, paths))


def commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "unknown"


def groups(only: Sequence[str], side_by_side: bool) -> list[list[Step]]:
    selected = [[step for step in group if not only or step.name in only] for group in GROUPS]
    if not side_by_side:
        return [[step] for group in selected for step in group]
    return [group for group in selected if group]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"))
    parser.add_argument("--only", choices=NAMES, action="append", default=[], metavar="STEP")
    parser.add_argument("--one-by-one", action="store_true", help="run one step after the other")
    parser.add_argument("--tiny", action="store_true", help="use tiny models on a GPU, too")
    parser.add_argument("--total", type=float, help=f"seconds in all; default {TOTAL_S} on a GPU")
    parser.add_argument("--kind", action="append", default=[], help="checkpoint kind for goldens")
    parser.add_argument("--requests", type=int, help="number of requests in the step `isolation`")
    options = parser.parse_args()
    gpu = processes.gpu()
    size: Size = "tiny" if gpu is None or options.tiny else "full"
    total = options.total or (TOTAL_S if size == "full" else 3600 * SLOWER)
    extra = {"goldens": [f"--kind={kind}" for kind in options.kind], "isolation": []}
    if options.requests:
        extra["isolation"] = [f"--requests={options.requests}"]
    processes.adopt_orphans()
    environment = dict(os.environ)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        deadline = time.monotonic() + total
        environment["PYTHONPATH"] = python_path(Path(work))
        run = Run(
            options.out.resolve(), Path(work), gpu or "CPU", size, deadline, extra, environment
        )
        results = [
            result
            for group in groups(options.only, gpu is not None and not options.one_by_one)
            for result in run.group(group)
        ]
    print((options.out / report.TABLE).read_text())
    for result in results:
        problems = [row.name for row in result.missed] or [result.status]
        if not result.passed:
            print(f"{result.name}: {'; '.join(problems)}")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
