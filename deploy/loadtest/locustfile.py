"""The load test as a locust file: one locust user sends each request when it is due.

    locust -f deploy/loadtest/locustfile.py --headless --host http://127.0.0.1:8000 \\
           --load-profile steady --mix all --rate 5 --seconds 60 --out /tmp/run

`python -m deploy.loadtest run` starts this command and writes the report.
"""

import json
import secrets
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import gevent
from locust import FastHttpUser, events, task

from deploy.loadtest.load import MAX_IN_FLIGHT, Arrival, Load
from deploy.loadtest.media import Media
from deploy.loadtest.memory import Sampler
from deploy.loadtest.outcome import Objective, Outcome, write_outcomes
from deploy.loadtest.profiles import PROFILES
from deploy.loadtest.scenarios import MIXES, SCENARIOS, RequestFactory

UPLOADS = 4  # Number of files that are uploaded before a test with `by_file_id`.
SAMPLE_S = 5  # Time between two samples of memory.
ERROR = b'data: {"error"'


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    parser.add_argument(
        "--load-profile",
        choices=list(PROFILES),
        default="steady",
        help="how the rate changes over time (default: steady)",
    )
    parser.add_argument(
        "--mix", choices=list(MIXES), default="all", help="which requests are sent (default: all)"
    )
    parser.add_argument("--rate", type=float, default=2, help="requests a second (default: 2)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=30,
        help="length of the main stage in seconds (default: 30)",
    )
    parser.add_argument(
        "--first-s",
        type=float,
        default=1,
        help="maximum seconds to the first token of a good answer (default: 1)",
    )
    parser.add_argument(
        "--total-s",
        type=float,
        default=5,
        help="maximum seconds to the last token of a good answer (default: 5)",
    )
    parser.add_argument(
        "--model", default="demo", help="the model's name on the server (default: demo)"
    )
    parser.add_argument("--key-file", type=Path, help="file with the API key (default: no key)")
    parser.add_argument(
        "--metrics-key-file",
        type=Path,
        help="file with the key of /metrics (default: the API key)",
    )
    parser.add_argument(
        "--pid", type=int, help="process id of a server on this machine, to record its memory"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the arrival times and the generated media (default: 0)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")


class Greenlets:
    """`load.Concurrency` with gevent."""

    def spawn(self, function: Callable[[], None]) -> None:
        gevent.spawn(function)

    def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)


class OpenLoop(FastHttpUser):
    fixed_count = 1
    concurrency = MAX_IN_FLIGHT
    network_timeout = connection_timeout = 120.0

    def on_start(self) -> None:
        self.options: Namespace = self.environment.parsed_options
        self.seed_rng = Random(self.options.seed)
        # `Random()` has no fixed seed, so that each run sends new files, which the server has not
        # cached.
        self.factory = RequestFactory(Media.make(self.options.seed), Random(), self.options.model)
        if self.options.key_file:
            key = self.options.key_file.read_text().split()[0]
            self.client.auth_header = f"Bearer {key}"
        if "by_file_id" in MIXES[self.options.mix]:
            self.factory.file_ids = [self.upload() for _ in range(UPLOADS)]

    @task
    def run_profile(self) -> None:
        options = self.options
        self.load = Load(
            self.send,
            MIXES[options.mix],
            Greenlets(),
            objective=Objective(options.first_s, options.total_s),
            rng=self.seed_rng,
        )
        sampler = Sampler(self.metrics, options.pid)
        sampling = gevent.spawn(sampler.watch, self.load.started, SAMPLE_S, gevent.sleep)
        try:
            PROFILES[options.load_profile](self.load, options.rate, options.seconds)
        finally:
            sampling.kill()
            self.write(sampler)
            self.environment.runner.quit()

    def send(self, arrival: Arrival) -> Outcome:
        """Send one request, and record it in locust's statistics and in `load.outcomes`."""
        request = SCENARIOS[arrival.scenario](self.factory)
        sent = time.perf_counter()
        first = status = tokens = 0.0
        right, error = False, ""
        with self.client.post(
            request.path,
            data=request.body,
            headers={"Content-Type": request.content_type},
            name=arrival.scenario,
            stream=True,
            catch_response=True,
        ) as response:
            status = response.status_code
            try:
                with gevent.Timeout(request.disconnect_after_s, False):
                    for chunk in chunks(response):
                        if chunk.startswith(ERROR):  # an error event within the stream
                            error, status = (
                                chunk.decode(errors="replace")[:200],
                                error_status(chunk),
                            )
                            break
                        first = first or time.perf_counter()
                        tokens += 1
                    right = status in request.expected and (status != 200 or tokens > 0)
                if request.disconnect_after_s is not None:
                    right = status == 200
            except Exception as failure:  # record every error as the outcome of this request
                error = f"{type(failure).__name__}: {failure}"[:200]
            end = time.perf_counter()
            response.request_meta["response_time"] = (end - arrival.at) * 1000
            if right:
                response.success()
            else:
                response.failure(error or f"status {status}")
        return Outcome(
            *(arrival.stage, arrival.scenario, arrival.at - self.load.started, int(status), right),
            first_s=(first or end) - arrival.at,
            total_s=end - arrival.at,
            tokens=int(tokens),
            late_s=sent - arrival.at,
            error=error,
        )

    def upload(self) -> str:
        """Upload a picture to /v1/files. Returns its id."""
        data = self.factory.media.distinct("image", self.factory.rng)
        form = {"purpose": b"user_data", 'file"; filename="picture.jpg': data}
        boundary = secrets.token_hex(8)
        lines = [
            b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
            % (boundary.encode(), name.encode(), value)
            for name, value in form.items()
        ]
        body = b"".join(lines) + f"--{boundary}--\r\n".encode()
        response = self.client.post(
            "/v1/files",
            data=body,
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            name="upload",
        )
        identifier: str = response.json()["id"]
        return identifier

    def metrics(self) -> str:
        file = self.options.metrics_key_file
        headers = {"Authorization": f"Bearer {file.read_text().split()[0]}"} if file else None
        return self.client.get("/metrics", name="metrics", headers=headers).text or ""

    def write(self, sampler: Sampler) -> None:
        options = self.options
        options.out.mkdir(parents=True, exist_ok=True)
        write_outcomes(options.out / "outcomes.jsonl", self.load.outcomes)
        about = {
            "profile": options.load_profile,
            "mix": options.mix,
            "rate": options.rate,
            "seconds": options.seconds,
            "first_s": options.first_s,
            "total_s": options.total_s,
            "stages": self.load.stages,
            "memory": sampler.samples,
        }
        (options.out / "run.json").write_text(json.dumps(about))


def chunks(response: Any) -> Iterator[bytes]:
    """Yield the lines of a stream that contain text or an error.

    Yields no lines if the status is not 200.
    """
    if not response.status_code:
        raise ConnectionError(f"no answer: {response.error}")
    if response.status_code != 200:
        response.stream.read()
        return
    while line := response.stream.readline(b"\n"):
        if line.startswith(ERROR) or (line.startswith(b"data: {") and b'"content":' in line):
            yield line


def error_status(chunk: bytes) -> int:
    code = json.loads(chunk.removeprefix(b"data: ")).get("error", {}).get("code")
    return code if isinstance(code, int) else 500
