"""Compare bulk embedding by two local Ray workers with `bindserve embed`.

    python -m tests.deploy.ray.embed_check MODEL INPUT...

Prints the largest difference of the embeddings. Fails if the two output files have different rows.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "ray.jsonl"), Path(folder, "local.jsonl")
        for module, out in (("deploy.ray.embed", one), ("server.cli.main", other)):
            command = [sys.executable, "-m", module]
            command += ["embed"] if module == "server.cli.main" else ["--workers=2"]
            subprocess.run([*command, *arguments, f"--out={out}"], check=True, env=ENVIRONMENT)
        pairs = list(zip(rows(one), rows(other), strict=True))
        vectors = [np.array([row.pop("embedding") for row in pair]) for pair in pairs]
        assert all(first == second for first, second in pairs), "the rows differ"
        difference = max(float(np.abs(first - second).max()) for first, second in vectors)
        print(f"{len(pairs)} rows, largest difference {difference:.1e}")
        assert difference < 1e-5


if __name__ == "__main__":
    main()
