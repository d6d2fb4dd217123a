"""python -m deploy.loadtest run --url URL | demo | report FOLDER | compare BEFORE AFTER"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from deploy.loadtest.compare import compare
from deploy.loadtest.report import write_report

LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.loadtest", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    text = "Load a server. Further options: locust -f deploy/loadtest/locustfile.py --help"
    run_parser = commands.add_parser("run", help=text)
    run_parser.add_argument("--url", required=True)
    run_parser.add_argument("--out", type=Path, default=Path("loadtest"))
    demo_parser = commands.add_parser("demo", help="Start the demo server and load it.")
    demo_parser.add_argument("--out", type=Path, default=Path("loadtest"))
    report_parser = commands.add_parser("report", help="Write the report of a folder again.")
    report_parser.add_argument("folder", type=Path)
    compare_parser = commands.add_parser("compare", help="Two runs of one profile.")
    compare_parser.add_argument("before", type=Path)
    compare_parser.add_argument("after", type=Path)
    compare_parser.add_argument("--out", type=Path, default=Path("loadtest"))
    known, rest = parser.parse_known_args()
    match known.command:
        case "run":
            run(known.url, known.out, rest)
        case "demo":
            from deploy.loadtest.demo import demo_server  # needs the server, all else does not

            with demo_server() as (url, pid):
                run(url, known.out, [f"--pid={pid}", *rest])
        case "report":
            print(write_report(known.folder).read_text())
        case "compare":
            print(compare(known.before, known.after, known.out))
    return 0


def run(url: str, out: Path, options: list[str]) -> None:
    """Locust in a process of its own: it changes Python's sockets and threads for good."""
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(LOCUSTFILE),
        "--headless",
        "--only-summary",
    ]
    command += ["--host", url, "--out", str(out), "--loglevel=WARNING", *options]
    environment = {**os.environ, "PYTHONPATH": str(LOCUSTFILE.parents[2])}
    done = subprocess.run(command, env=environment, check=False)
    if not (out / "run.json").is_file():
        raise SystemExit(f"locust ended with {done.returncode} and no results")
    print(write_report(out).read_text())


if __name__ == "__main__":
    sys.exit(main())
