"""Send requests to a server at a given rate, and report how many answers were good.

python -m deploy.loadtest run --url URL | demo | report FOLDER | compare BEFORE AFTER
"""

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
    text = (
        "Send requests to a running server and write a report. "
        "`locust -f deploy/loadtest/locustfile.py --help` lists more options, "
        "which `run` and `demo` pass on to locust."
    )
    run_parser = commands.add_parser("run", help=text)
    run_parser.add_argument(
        "--url", required=True, help="the server's address, e.g. http://127.0.0.1:8000"
    )
    add_out(run_parser)
    demo_parser = commands.add_parser(
        "demo", help="Start the demo server on this machine, send it requests, and write a report."
    )
    add_out(demo_parser)
    report_parser = commands.add_parser(
        "report", help="Write the report of an earlier run again, from the stored results."
    )
    report_parser.add_argument("folder", type=Path, help="the --out folder of the run")
    compare_parser = commands.add_parser(
        "compare", help="Compare two runs that have the same profile, mix and objective."
    )
    compare_parser.add_argument("before", type=Path, help="the --out folder of the first run")
    compare_parser.add_argument("after", type=Path, help="the --out folder of the second run")
    add_out(compare_parser)
    options, locust_options = parser.parse_known_args()
    match options.command:
        case "run":
            run(options.url, options.out, locust_options)
        case "demo":
            from deploy.loadtest.demo import demo_server  # only this command needs bindserve

            with demo_server() as (url, pid):
                run(url, options.out, [f"--pid={pid}", *locust_options])
        case "report":
            print(write_report(options.folder).read_text())
        case "compare":
            print(compare(options.before, options.after, options.out))
    return 0


def add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("loadtest"),
        help="folder for the results, the report and the plots (default: %(default)s)",
    )


def run(url: str, out: Path, options: list[str]) -> None:
    """Run locust in its own process, because it patches Python's sockets and threads."""
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
        raise SystemExit(
            f"locust exited with status {done.returncode} and wrote no results to {out}"
        )
    print(write_report(out).read_text())


if __name__ == "__main__":
    sys.exit(main())
