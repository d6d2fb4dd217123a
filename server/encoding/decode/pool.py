"""The pool of decoding processes, which turn files into tensors.

Media decoders are large libraries that parse hostile input, so they run in processes that can be
killed. Each process decodes one file at a time with a limit of CPU time (a limit of elapsed time
would reject good files on a busy machine). A process that crashes, hangs or sends an invalid answer
is replaced, and only the request with that file fails.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import Process
from collections.abc import Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load

from model_ext.imagebind.preprocess.options import DEFAULT_OPTIONS, Note, ReadOptions
from model_ext.imagebind.preprocess.sample import Sample
from server.encoding.decode.frames import (
    DecodeJob,
    Frame,
    FrameError,
    WorkerSettings,
    encode_head,
    read_frame,
)
from server.errors import BadRequest, Unavailable
from server.fairness.share import FairShare
from server.fairness.turns import Turns
from server.media.blob import Blob, opened

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

WORKER = "server.encoding.decode.worker"
# A job's limit of elapsed time, divided by its limit of CPU time. A job needs more elapsed time
# than CPU time if other processes use the same core.
MAX_TIME_PER_CPU_TIME = 4
RETRY_S = 5
EXIT_S = 1  # A process must exit within this many seconds after its socket is closed.
# A process must be ready within this time. Importing torch from a cold disk is slow.
START_TIMEOUT_S = 120
MAX_TENSOR_BYTES = 64 << 20  # The largest expected tensor, 15 video crops, has 18 MB.
# Maximum number of notes about how a file was read, and maximum characters of each key and note.
MAX_NOTES, MAX_NOTE = 16, 64
MAX_LOGGED_OUTPUT = 2000  # Maximum characters of a failing process's output that are logged.


class MediaError(BadRequest):
    """Raised when a file cannot be decoded. The message gives the reason."""

    default_code = "invalid_media"


class DecodeTimeout(MediaError):
    """Raised when decoding exceeds the limit of elapsed time. The file may be good: the server's
    processes may have been stopped and continued, for example with Ctrl-Z and `fg`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    workers: int  # Number of decoding processes.
    waiting: int  # Maximum number of jobs that wait for a process; more jobs are rejected.
    # Maximum CPU seconds of one job, and maximum seconds of the wait for a free process.
    timeout_s: float
    # Maximum memory of one process in bytes, in addition to that of its imported packages.
    memory_bytes: int
    max_bytes: int  # Maximum bytes of one file in a process's memory.
    limits: Mapping[str, Any]  # The fields of model_ext.imagebind.preprocess.Limits.


class DecodePool:
    def __init__(self, settings: DecodeSettings, encoder_config: bytes) -> None:
        """`encoder_config`: the encoders' config.json, which contains the sizes of tensors."""
        self._settings = settings
        self._encoder_config = encoder_config
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._workers: set[Worker] = set()
        self._waiting = FairShare(settings.waiting)
        self._turns = Turns()
        self._running: set[asyncio.Task[Any]] = set()
        # the working directory of the decoding processes, which stays empty
        self._folder = tempfile.TemporaryDirectory(prefix="bindserve-decode-")

    async def start(self) -> None:
        """Start all processes. Raises Unavailable when one does not start."""
        try:
            await asyncio.gather(*(self._add_worker() for _ in range(self._settings.workers)))
        except WorkerLost as error:
            await self.close()
            raise Unavailable(f"the decoding processes do not start: {error}") from None

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for worker in tuple(self._workers):
            await worker.kill()
        self._workers.clear()
        self._folder.cleanup()

    @property
    def alive(self) -> int:
        """Return the number of running processes."""
        return len(self._workers)

    async def decode(
        self,
        modality: str,
        content: Blob,
        options: ReadOptions = DEFAULT_OPTIONS,
        client: str = "",
        view: str = "",
    ) -> Sample:
        """Decode one file. Waiting files of different clients take turns.

        `view`: see `DecodeJob`.

        Cancelling the caller does not stop a busy process, because starting a new process takes
        longer than most jobs, and the time limit ends long jobs.

        Raises MediaError: when the file is bad.
        Raises DecodeTimeout: when decoding takes too long without using much CPU time.
        Raises Unavailable: when the queue is full, or no process becomes free in time.
        """
        if not self._waiting.take(client):
            raise Unavailable("too many files are waiting to be decoded", code="decode_queue_full")
        try:
            async with asyncio.timeout(self._settings.timeout_s), self._turns.turn(client):
                worker = await self._next_idle()
        except TimeoutError:
            raise Unavailable(
                "no decoding process became free in time", code="decode_queue_full"
            ) from None
        finally:
            self._waiting.give_back(client)
        job = DecodeJob(modality, asdict(options), view)
        decoding = self._start(self._run(worker, job, content))
        decoding.add_done_callback(retrieve_exception)
        return await asyncio.shield(decoding)

    async def _next_idle(self) -> "Worker":
        while (worker := await self._idle.get()) not in self._workers:
            pass  # the process has ended while it was idle
        return worker

    async def _run(self, worker: "Worker", job: DecodeJob, content: Blob) -> Sample:
        try:
            async with opened(content) as file:
                async with asyncio.timeout(self._settings.timeout_s * MAX_TIME_PER_CPU_TIME):
                    answer = await worker.decode(job, file)
            sample = read_answer(answer, job.modality)
        except (MediaError, Unavailable):
            self._idle.put_nowait(worker)
            raise
        except TimeoutError:
            await worker.kill()
            seconds = self._settings.timeout_s * MAX_TIME_PER_CPU_TIME
            raise DecodeTimeout(f"decoding took more than {seconds:g} seconds") from None
        except WorkerLost as error:
            ended_by = await worker.ended_by()
            await worker.kill()
            logger.warning("a decoding process failed on a file (%s): %s", job.modality, error)
            if ended_by == signal.SIGXCPU:
                seconds = self._settings.timeout_s
                raise MediaError(
                    f"decoding took more than {seconds:g} seconds of CPU time"
                ) from None
            # The file is not the cause: an operator sends SIGKILL, or the kernel if memory is
            # short.
            if ended_by == signal.SIGKILL:
                raise Unavailable("the decoding process was killed", code="decoder_lost") from None
            raise MediaError("the file cannot be decoded") from None
        self._idle.put_nowait(worker)
        return sample

    def _start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _add_worker(self) -> None:
        worker = await Worker.start(self._settings, self._encoder_config, self._folder.name)
        self._workers.add(worker)
        self._idle.put_nowait(worker)
        self._start(self._replace_when_it_ends(worker))

    async def _replace_when_it_ends(self, worker: "Worker") -> None:
        await worker.ended()
        self._workers.discard(worker)
        while True:
            try:
                return await self._add_worker()
            except WorkerLost as error:
                logger.error("a decoding process does not start (%s); trying again", error)
                await asyncio.sleep(RETRY_S)


class WorkerLost(Exception):
    """Raised when a decoding process has ended or its answer breaks the protocol."""


class Worker:
    """One decoding process, and the service's ends of the sockets to this process: one for jobs and
    answers, and one for the descriptors of the jobs' files.
    """

    def __init__(
        self, process: Process, answers: StreamReader, jobs: StreamWriter, files: socket.socket
    ) -> None:
        self._process = process
        self._answers, self._jobs, self._files = answers, jobs, files

    @classmethod
    async def start(cls, settings: DecodeSettings, config: bytes, folder: str) -> "Worker":
        """Start a process. Raises WorkerLost: when it does not start. The log then contains its
        output.
        """
        near, far = socket.socketpair()
        files, far_files = socket.socketpair()
        with open(os.memfd_create("output"), "w+b") as output:
            with far, far_files:
                arguments = str(os.getpid()), str(far_files.fileno())
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", WORKER, *arguments),
                    stdin=far.fileno(),
                    stdout=far.fileno(),
                    stderr=output,
                    pass_fds=[far_files.fileno()],
                    cwd=folder,
                    env=worker_environment(),
                )
            worker = cls(process, *await asyncio.open_connection(sock=near), files)
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    ready, _ = await worker.ask(asdict(worker_settings(settings)), config)
            except (TimeoutError, WorkerLost) as error:
                await worker.kill()
                reason = str(error) or f"no answer within {START_TIMEOUT_S} s"
                logger.error("a decoding process printed: %s", last_output(output))
                raise WorkerLost(f"{reason}; the log contains its output") from None
            except BaseException:
                await worker.kill()
                raise
        if not ready.get("isolated"):
            logger.info("this kernel does not let decoding processes give up their network access")
        if not ready.get("confined"):
            logger.warning("this kernel does not confine decoding processes to their own file")
        return worker

    async def decode(self, job: DecodeJob, file: int) -> Frame:
        """Send one job and read the answer. `file`: the descriptor of the job's file."""
        try:
            # does not block, because the process has received the descriptors of earlier jobs
            socket.send_fds(self._files, [b"\0"], [file])
        except OSError as error:
            raise WorkerLost(str(error)) from None
        return await self.ask(asdict(job))

    async def ask(self, header: dict[str, Any], payload: bytes = b"") -> Frame:
        if self._jobs.is_closing():  # without this check, uvloop's write raises RuntimeError
            raise WorkerLost("the process ended before it received the job")
        try:
            self._jobs.write(encode_head(header, len(payload)) + payload)
            await self._jobs.drain()
            return await read_frame(self._answers, MAX_TENSOR_BYTES)
        except (asyncio.IncompleteReadError, OSError, FrameError) as error:
            raise WorkerLost(str(error) or type(error).__name__) from None

    async def ended(self) -> None:
        await self._process.wait()
        self._jobs.close()
        self._files.close()

    async def ended_by(self) -> int | None:
        """Return the signal that ended the process, or None if the process runs.

        The kernel or an operator sends SIGKILL, the limit of CPU time sends SIGXCPU, and a crash of
        the decoder causes any other signal.
        """
        try:
            return -await asyncio.wait_for(self._process.wait(), EXIT_S)
        except TimeoutError:  # the process still runs, but its answer is invalid
            return None

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()


def last_output(file: BinaryIO) -> str:
    """Return the last MAX_LOGGED_OUTPUT characters of what a process wrote to `file`."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - MAX_LOGGED_OUTPUT))
    return file.read().decode(errors="replace").strip() or "nothing"


def worker_settings(settings: DecodeSettings) -> WorkerSettings:
    return WorkerSettings(
        memory_bytes=settings.memory_bytes,
        cpu_s=settings.timeout_s,
        max_bytes=settings.max_bytes,
        limits=dict(settings.limits),
    )


def worker_environment() -> dict[str, str]:
    """Return the environment variables of a decoding process.

    They contain no secrets, limit libraries to one thread, and let the process import the same
    packages as this process. Omits empty and relative paths, which would refer to the other working
    directory of the decoding process.
    """
    names = ("PATH", "LANG", "LC_ALL")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    paths = {
        "PYTHONPATH": [str(Path(__file__).parents[3]), *sys.path],
        "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep),
    }
    for name, entries in paths.items():
        absolute = [entry for entry in dict.fromkeys(entries) if os.path.isabs(entry)]
        if absolute:
            kept[name] = os.pathsep.join(absolute)
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def retrieve_exception(task: "asyncio.Task[Sample]") -> None:
    """Retrieve the exception of a task whose caller may have been cancelled, so that asyncio does
    not log it.
    """
    if not task.cancelled():
        task.exception()


def read_answer(answer: Frame, modality: str) -> Sample:
    """Read the sample from a process's answer. `modality`: the job's modality.

    Checks the whole answer, because the process has parsed hostile bytes.

    Raises MediaError: when the process reports an error. The message is that of the process.
    Raises WorkerLost: when the answer is not a sample.
    """
    header, payload = answer
    error = header.get("error")
    if error is not None:
        raise MediaError(str(error)[:300])
    decoded = header.get("modality", modality)
    if decoded != modality and (modality, decoded) != ("video", "audio"):
        raise WorkerLost("not the modality of the job")
    try:
        return Sample(decoded, load(payload)["tensor"], read_notes(header.get("notes", {})))
    except (SafetensorError, KeyError, ValueError) as failure:
        raise WorkerLost(f"not a tensor: {type(failure).__name__}") from None


def read_notes(notes: object) -> dict[str, Note]:
    """Check what a decoding process reports about how it read the file. Raises ValueError."""
    if not isinstance(notes, dict) or len(notes) > MAX_NOTES:
        raise ValueError("not notes")
    for key, note in notes.items():
        if not isinstance(note, Note) or len(key) > MAX_NOTE or len(str(note)) > MAX_NOTE:
            raise ValueError("not a note")
    return notes
