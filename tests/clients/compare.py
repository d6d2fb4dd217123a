"""Compare the answers and the score of lmms-eval with those of `bindserve eval`.

    python -m tests.clients.compare QUESTIONS.jsonl RUN SAMPLES.jsonl

The program exits with an error if an answer or the exact-match score differs.
"""

import json
import sys
from pathlib import Path

from model_ext.eval.data import ALL, load_named
from model_ext.eval.metrics import estimate
from model_ext.eval.results import read_results


def main(data: Path, run: Path, samples: Path) -> None:
    tasks, questions = load_named(data, ALL)
    items = [item for task in tasks for item in questions[task.name]]
    own = {key: result.answer for (_, key), result in read_results(run)[1].items()}
    other: dict[str, str] = {}
    score = 0.0
    ids = [json.loads(line)["id"] for line in data.read_text().splitlines()]
    for line in samples.read_text().splitlines():
        sample = json.loads(line)
        other[ids[sample["doc_id"]]] = sample["filtered_resps"]
        score += sample["exact"]
    different = [key for key in own if own[key].strip() != other[key].strip()]
    for key in different:
        print(f"question {key}: {own[key]!r} (bindserve eval), {other[key]!r} (lmms-eval)")
    exact = estimate("vqa_exact", items, [own[item.id].strip() for item in items], "all").value
    print(f"{len(own)} questions, {len(different)} different answers")
    print(f"exact match: {exact:.2f} (bindserve eval), {100 * score / len(other):.2f} (lmms-eval)")
    sys.exit(bool(different) or abs(exact - 100 * score / len(other)) > 1e-9)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
