"""Record the public interface as JSON, without texts, and compare two records.

    python -m tests.contract.record interface.json
    python -m tests.contract.record interface.json --compare earlier.json

The record holds the options, types and defaults of every command, the exit codes of wrong
invocations, the paths, schemas and status codes of the HTTP API, the names of settings, training
options, environment variables and metrics, and the values of the deployment files. It omits texts
for people (help, descriptions, titles), so that changed texts make no difference. The program
starts no engine and no server. With --compare, it prints each difference and exits with status 1 if
there is any.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.command_line import argparse_modules, commands, exit_codes, loadtest_options
from tests.contract.configuration import (
    deployment_files,
    environment_variables,
    makefile_targets,
    package,
    ray_arguments,
    settings,
    training,
)
from tests.contract.http_api import cache_service, http, metrics
from tests.contract.values import differences


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--compare", type=Path, help="an earlier record to compare with")
    options = parser.parse_args()
    options.out.write_text(json.dumps(record(), indent=1, sort_keys=True, default=str) + "\n")
    if options.compare:
        before, after = (json.loads(path.read_text()) for path in (options.compare, options.out))
        changes = list(differences(before, after))
        print("\n".join(changes) or "no differences")
        sys.exit(bool(changes))


def record() -> dict[str, Any]:
    """Return the sections of the record by name."""
    sections: dict[str, Callable[[], Any]] = {
        "commands": commands,
        "exit_codes": exit_codes,
        "modules": argparse_modules,
        "loadtest_options": loadtest_options,
        "settings": settings,
        "training": training,
        "environment": environment_variables,
        "http": http,
        "cache_service": cache_service,
        "metrics": metrics,
        "ray": ray_arguments,
        "files": deployment_files,
        "makefile": makefile_targets,
        "package": package,
    }
    return {name: section() for name, section in sections.items()}


if __name__ == "__main__":
    main()
