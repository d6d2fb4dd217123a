"""Compare the rates of `bindserve eval` and `vllm bench serve`, in interleaved pairs of runs.

    python -m tests.serving.evaluation_throughput URL --tokenizer MODEL --out build/throughput

Both clients send the same questions without media to the same server, with the same maximum number
of tokens and of concurrent requests. `vllm bench serve` runs as in docs/load-testing.md, but all of
its runs share one process, because the import of vLLM takes longer than a run. It needs pandas
(extra `loadtest`). At the end, `bindserve eval` sends each question with a picture that is new to
the server, and then with the same pictures again.
"""

import argparse
import base64
import contextlib
import io
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cache_index.bench.pairs import WARM_UP, Ratio, as_table
from model_ext.demo.splits import CONCEPTS
from model_ext.demo.texts import a
from model_ext.eval.results import read_results
from tests.serving.record_evaluation import FOLDER as PICTURES

TARGET = 0.9
TEMPLATES = ("Write one sentence about {}.", "Describe {}.", "What is {} for?", "Where is {}?")
RATE = re.compile(r"(\d+) questions in [\d.]+ s: ([\d.]+) questions/s")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Load:
    url: str
    tokenizer: Path
    out: Path
    concurrency: int
    tokens: int

    def own_rate(self, rows: Rows) -> float:
        """Send the questions with `bindserve eval`. Returns the questions per second."""
        data, run = self.out / "questions.jsonl", self.out / "run"
        write(data, rows)
        (run / "answers.jsonl").unlink(missing_ok=True)
        command = [sys.executable, "-m", "server.cli.main", "eval", self.url, "--data", str(data)]
        command += ["--tasks", "all", "--decoding", "greedy", "--out", str(run)]
        command += ["--concurrency", str(self.concurrency)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)
        match = RATE.search(ended.stderr)
        assert match is not None, ended.stderr
        assert int(match[1]) == len(rows)
        return float(match[2])

    def vllm_rate(self, rows: Rows) -> float:
        """Send the questions with `vllm bench serve`. Returns the questions per second."""
        from vllm.benchmarks.serve import add_cli_args, main

        data, result = self.out / "prompts.jsonl", self.out / "bench.json"
        write(data, ({"prompt": row["question"]} for row in rows))
        parser = argparse.ArgumentParser()
        add_cli_args(parser)
        arguments = [f"--base-url={self.url}", f"--tokenizer={self.tokenizer}", "--temperature=0"]
        arguments += ["--backend=openai-chat", "--endpoint=/v1/chat/completions"]
        arguments += ["--dataset-name=custom", f"--dataset-path={data}", "--skip-chat-template"]
        arguments += [f"--custom-output-len={self.tokens}", f"--num-prompts={len(rows)}"]
        arguments += [f"--max-concurrency={self.concurrency}", "--disable-shuffle"]
        arguments += ["--no-oversample", "--save-result", "--save-detailed"]
        arguments += [f"--result-dir={self.out}", f"--result-filename={result.name}"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(parser.parse_args(arguments))
        record = json.loads(result.read_text())
        assert record["completed"] == len(rows), f"{record['completed']} of {len(rows)} requests"
        return len(rows) / float(record["duration"])

    def different_answers(self) -> int:
        """Return the number of questions to which the last runs of both clients got different
        answers.
        """
        answers = {
            int(key): each.answer for (_, key), each in read_results(self.out / "run")[1].items()
        }
        texts = json.loads((self.out / "bench.json").read_text())["generated_texts"]
        return sum(answers[n] != text for n, text in enumerate(texts))


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def questions(count: int, tokens: int) -> Rows:
    texts = [(concept, text.format(a(concept))) for text in TEMPLATES for concept in CONCEPTS]
    return [
        {
            "id": str(number),
            "task": "Sentences",
            "question": text,
            "answers": [concept],
            "metric": "vqa_containment",
            "max_tokens": tokens,
        }
        for number, (concept, text) in enumerate(texts[:count])
    ]


def with_pictures(rows: Rows) -> Rows:
    """Add a picture to each question. One changed pixel makes the picture new to the server."""
    generator = np.random.default_rng()
    result = []
    for row in rows:
        picture = Image.open(PICTURES / f"{row['answers'][0]}.png").convert("RGB")
        picture.putpixel((0, 0), tuple(generator.integers(0, 256, 3).tolist()))
        file = io.BytesIO()
        picture.save(file, "png")
        uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
        result.append({**row, "image": uri})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the model's folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--questions", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=16, help="maximum tokens of an answer")
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    load = Load(options.url, options.tokenizer, options.out, options.concurrency, options.tokens)
    rows = questions(options.questions, options.tokens)
    pairs = []
    for number in range(WARM_UP + options.pairs):
        if number % 2:
            own, vllm = load.own_rate(rows), load.vllm_rate(rows)
        else:
            vllm, own = load.vllm_rate(rows), load.own_rate(rows)
        note = " (warm-up)" if number < WARM_UP else ""
        print(f"pair {number}: {own:.2f}/s, {vllm:.2f}/s, ratio {own / vllm:.3f}{note}", flush=True)
        pairs.append((own, vllm))
    different = load.different_answers()
    measured = pairs[WARM_UP:]
    ratio = Ratio(
        "`bindserve eval` / `vllm bench serve`, without pictures",
        statistics.median(own for own, _ in measured),
        statistics.median(vllm for _, vllm in measured),
        "/s",
        tuple(own / vllm for own, vllm in measured),
        TARGET,
    )
    print(as_table([ratio]))
    print(f"{different} of {len(rows)} answers differ between the clients")
    pictures = with_pictures(rows)
    print(f"with new pictures: {load.own_rate(pictures):.2f} questions/s")
    print(f"with the same pictures again: {load.own_rate(pictures):.2f} questions/s")


if __name__ == "__main__":
    main()
