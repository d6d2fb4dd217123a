"""Run one batch: check its input file, send its requests to the application, and store the results.

A batch that was interrupted because the server was killed can run again. Requests whose results are
on disk are not sent again.
"""

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from starlette.types import ASGIApp

from server.api.batches.in_process import BatchAnswer, send_request
from server.api.batches.lines import BatchLine, Fault, LineLimits, body_of, read_lines
from server.api.batches.places import BatchPlace, BatchPlaces
from server.api.batches.record import BatchRecord, Status, result_file_id
from server.api.batches.results import BatchResults, ResultFile
from server.api.batches.store import ERRORS, OUTPUT, OwnedBatches
from server.errors import BadRequest, body
from server.media.files import OwnedFiles

logger = logging.getLogger(__name__)

AGAIN = (429, 503)  # A request whose response has one of these statuses is sent again.
# Error codes, besides "..._queue_full", without a limit of attempts. None: a full queue of vLLM.
FULL = (None, "server_full", "draining")
# Attempts for other codes. They take about 8 minutes, longer than the start of a service.
MAX_FAILURES = 20
MAX_WAIT_S = 30  # Maximum seconds before a request is sent again.
WATCH_S = 0.5  # Seconds between two checks whether the client has cancelled the batch.

# Final status of a batch -> code and message of the error of each request that did not run.
NOT_RUN: dict[Status, tuple[str, str]] = {
    "expired": (
        "batch_expired",
        "the request could not run before the batch's completion window ended",
    ),
    "cancelled": ("batch_cancelled", "the batch was cancelled before the request ran"),
}


@dataclass(frozen=True, slots=True)
class BatchTools:
    """The objects and limits that all batches of a process share."""

    app: ASGIApp
    places: BatchPlaces
    limits: LineLimits
    max_output_bytes: int  # maximum bytes of the results of one batch


class BatchRun:
    def __init__(
        self, tools: BatchTools, batches: OwnedBatches, files: OwnedFiles, record: BatchRecord
    ) -> None:
        """`record`: an unfinished batch, whose lock this process holds."""
        self._tools, self._batches, self._files = tools, batches, files
        self._record = record
        self._cancelled = asyncio.Event()  # whether the client has cancelled the batch

    async def run(self) -> None:
        """Run the batch until it has a final status. Raises OSError."""
        lines, faults = await asyncio.to_thread(self._read_lines)
        if faults:
            await self._save(self._record.enter("failed", now(), errors=faults))
        else:
            if self._record.status == "validating":
                await self._save(self._record.enter("in_progress", now(), total=len(lines)))
            results = await asyncio.to_thread(self._open_results)
            try:
                status = await self._run_lines(lines, results)
                await asyncio.to_thread(self._add_missing, status, lines, results)
            finally:
                await asyncio.to_thread(results.close)
            await self._publish(status, results)
        await asyncio.to_thread(self._batches.clean, self._record.id)

    def _read_lines(self) -> tuple[list[BatchLine], list[Fault]]:
        with self._batches.open_input(self._record.id) as file:
            return read_lines(file, self._record.endpoint, self._tools.limits)

    def _open_results(self) -> BatchResults:
        output, errors = (
            ResultFile.open(self._batches.path(self._record.id, suffix))
            for suffix in (OUTPUT, ERRORS)
        )
        max_bytes = min(self._tools.max_output_bytes, self._files.free_bytes())
        return BatchResults(self._record.digits, output, errors, max_bytes)

    async def _run_lines(self, lines: list[BatchLine], results: BatchResults) -> Status:
        """Run the requests that have no result. Returns the batch's final status."""
        ended = asyncio.Event()
        watch = asyncio.ensure_future(self._watch(results, ended))
        try:
            with self._batches.open_input(self._record.id) as file:
                async with asyncio.timeout(self._record.expires_at - time.time()):
                    await asyncio.sleep(0)  # raises TimeoutError if the batch has already expired
                    await self._start_lines(file, lines, results)
        except TimeoutError:
            # If a server was killed after all requests had results, the batch is complete, not
            # expired.
            if not all(line.number in results for line in lines):
                return "expired"
        finally:
            ended.set()
            await watch
        return "cancelled" if self._cancelled.is_set() else "completed"

    async def _start_lines(
        self, file: BinaryIO, lines: list[BatchLine], results: BatchResults
    ) -> None:
        """Start each request when a place is free, and wait for all requests."""
        places = self._tools.places
        # Also counts the requests that wait to be sent again, which hold their bodies in memory.
        started = asyncio.Semaphore(places.count)

        def end(place: BatchPlace, _: asyncio.Task[None]) -> None:
            place.give_back()
            started.release()

        async with asyncio.TaskGroup() as group:
            for line in lines:
                if line.number in results:
                    continue
                await started.acquire()
                place = BatchPlace(places)
                await place.take()
                if self._cancelled.is_set():
                    return place.give_back()
                task = group.create_task(self._run_line(file, line, results, place))
                task.add_done_callback(partial(end, place))

    async def _run_line(
        self, file: BinaryIO, line: BatchLine, results: BatchResults, place: BatchPlace
    ) -> None:
        answer: BatchAnswer | None
        try:
            data = await asyncio.to_thread(body_of, file.fileno(), line)
        except BadRequest as error:
            answer = BatchAnswer(error.status, body=json.dumps(body(error)).encode())
        else:
            answer = await self._answer(data, place)
        if answer is not None:
            await asyncio.to_thread(results.add, line, answer)

    async def _answer(self, data: bytes, place: BatchPlace) -> BatchAnswer | None:
        """Send a request, and send it again while the server is full, or up to `MAX_FAILURES` times
        if a part of the server is down. Gives the place back while the request waits. Returns None
        when the client cancels the batch.
        """
        failures = 0
        while not self._cancelled.is_set():
            answer = await send_request(
                self._tools.app, self._record.endpoint, data, self._batches.owner
            )
            if answer.status not in AGAIN:
                return answer
            wait_s = answer.retry_after_s
            if not is_full(answer):
                failures += 1
                if failures == MAX_FAILURES:
                    return answer
                wait_s <<= failures - 1
            place.give_back()
            await wait(self._cancelled, min(MAX_WAIT_S, wait_s))
            await place.take()
        return None

    async def _watch(self, results: BatchResults, ended: asyncio.Event) -> None:
        """Check regularly whether the client has cancelled the batch, and store the numbers of
        finished requests.
        """
        while not ended.is_set():
            cancelling_at = await asyncio.to_thread(self._batches.cancelling_at, self._record.id)
            if cancelling_at is not None:
                self._cancelled.set()
            counts = self._counted(results)
            if counts != self._record:
                # ignore the error, because newer numbers are written soon
                with contextlib.suppress(OSError):
                    await self._save(counts)
            await wait(ended, WATCH_S)

    def _counted(self, results: BatchResults) -> BatchRecord:
        return replace(self._record, completed=results.completed, failed=results.failed)

    def _add_missing(self, status: Status, lines: list[BatchLine], results: BatchResults) -> None:
        """Write an error for each request that did not run."""
        if status in NOT_RUN:
            for line in lines:
                results.add_error(line, *NOT_RUN[status])

    async def _publish(self, status: Status, results: BatchResults) -> None:
        """Turn the results into files of the client, and store the batch's final status."""
        if (cancelling_at := self._batches.cancelling_at(self._record.id)) is not None:
            times = {**self._record.times, "cancelling": cancelling_at}
            self._record = replace(self._record, times=times)
        if status == "completed":
            await self._save(self._counted(results).enter("finalizing", now()))
        ids = {}
        for kind, suffix, count in (
            ("output", OUTPUT, results.completed),
            ("error", ERRORS, results.failed),
        ):
            if count:
                ids[f"{kind}_file_id"] = await asyncio.to_thread(self._adopt, kind, suffix)
        await self._save(self._counted(results).enter(status, now(), **ids))

    def _adopt(self, kind: str, suffix: str) -> str:
        file_id = result_file_id(self._record.id, kind)
        self._files.adopt(
            self._batches.path(self._record.id, suffix),
            file_id,
            filename=f"{self._record.id}_{kind}.jsonl",
            purpose="batch_output",
            lifetime_s=self._record.output_lifetime_s,
        )
        return file_id

    async def _save(self, record: BatchRecord) -> None:
        self._record = record
        await asyncio.to_thread(self._batches.save, record)


def is_full(answer: BatchAnswer) -> bool:
    """Return whether the server rejected a request because of a full queue or a limit of requests,
    or because it is being stopped: the batch then continues in the next process.
    """
    if answer.status == 429:
        return True
    document = json.loads(answer.body)  # null if the response is not JSON
    code = document["error"].get("code") if document else ""
    return code in FULL or code.endswith("_queue_full")


def now() -> int:
    return int(time.time())


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, but at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
