"""Step `goldens` of deploy/gpu_check.py: compare the answers of servers with recorded answers.

The step starts a server for each kind of checkpoint, with vLLM's Model Runner V2. On a GPU, all
servers run at the same time and use CUDA graphs. On a CPU, they run one after the other. The step
also checks requests that share the prefix cache.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from deploy.gpu.arguments import Arguments, step_parser
from tests.conftest import ADAPTERS, convert_fixtures
from tests.serving import test_parity, test_sharing
from tests.serving.launch import ON_GPU, Server, Spec, serve

INDEX = "knn.index"
SHARED = 64 if ON_GPU else 16  # fewer requests on a CPU, where Triton's interpreter is slow


def main() -> None:
    parser = step_parser(__doc__)
    parser.add_argument("--kind", choices=list(ADAPTERS), action="append", default=[])
    options = parser.parse_args()
    arguments, kinds = Arguments.of(options), options.kind or list(ADAPTERS)
    models = convert_fixtures(arguments.work / "models", kinds, [INDEX])
    with ThreadPoolExecutor(len(kinds) if ON_GPU else 1) as pool:
        for checked in [pool.submit(check, kind, models, arguments) for kind in kinds]:
            checked.result()


def check(kind: str, models: dict[str, Path], arguments: Arguments) -> None:
    spec = Spec(kind, INDEX if kind == "finetune" else "none", "v2")
    checks: dict[str, Callable[[Server], None]] = {
        "greedy ids equal the recorded ids": lambda server: test_parity.test_greedy_ids(
            spec, server
        ),
        "requests share cached blocks only if their embeddings are equal": share,
        "log-probabilities of the prompt equal the recorded ones": lambda server: log_probabilities(
            spec, server
        ),
        "the server uses Model Runner V2": lambda server: (
            test_parity.test_the_server_uses_the_runner_of_its_spec(spec, server)
        ),
    }
    cache = models.get(spec.cache, spec.cache)
    log = arguments.work / f"{kind}.log"
    try:
        with serve(models[kind], log, f"--cache={cache}", runner="v2") as server:
            for name, run in checks.items():
                arguments.rows.check(f"{kind}: {name}", *outcome(partial(run, server)))
    except BaseException as error:  # `Exception` excludes pytest's
        arguments.rows.check(f"{kind}: the server starts", False, str(error)[:300])
        print(log.read_text()[-6000:], flush=True)


def outcome(run: Callable[[], None]) -> tuple[bool, str]:
    """Run a check. Return (True, "") if the check passes, else (False, the error's first line)."""
    try:
        run()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}"[:3000], flush=True)
        first_line = (str(error).splitlines() or [""])[0]
        return False, f"no: {type(error).__name__} {first_line}"[:200]
    return True, ""


def share(server: Server) -> None:
    test_sharing.check_own_answers(server, SHARED)
    test_sharing.test_another_attachment_shares_no_block(server)


def log_probabilities(spec: Spec, server: Server) -> None:
    for prompt in range(len(test_parity.PROMPTS)):
        test_parity.test_prompt_logprobs(spec, server, prompt)


if __name__ == "__main__":
    main()
