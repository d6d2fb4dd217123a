"""Decode: a client's bytes to a tensor, in processes that can be killed.

Media decoders are large and parse hostile input. Each job gets a worker for itself and a time
limit; a worker that crashes, hangs or answers nonsense is killed and replaced, and costs only the
request that sent the bytes. The limit is of CPU time, so that a busy machine refuses no good file.
It does not know what the bytes mean.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

import server
from server.encoding.decode.frames import Frame, FrameError, encode_head, read_frame
from server.errors import BadRequest, Unavailable
from server.media.blob import Blob, MemoryBlob

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

WORKER = "server.encoding.decode.worker"
BY_THE_CLOCK = 4  # times its CPU time that a job may take: others may have the core meanwhile
RETRY_S = 5
DYING_S = 1  # between the end of a process's socket and its own
START_TIMEOUT_S = 120  # importing torch from a cold disk
MAX_TENSOR_BYTES = 64 << 20  # 15 video crops are 18 MB


class MediaError(BadRequest):
    """The bytes cannot be decoded; the message says why."""

    default_code = "invalid_media"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeSettings:
    workers: int
    waiting: int  # jobs that may wait for a worker; one more is refused
    timeout_s: float  # of CPU time for one job; and by the clock, until a worker is free
    memory_bytes: int  # a worker's, beyond its imports
    max_bytes: int  # of one file
    limits: Mapping[str, Any]  # fields of model_ext.imagebind.preprocess.Limits


class DecodePool:
    def __init__(self, settings: DecodeSettings, encoder_config: bytes) -> None:
        self._settings = settings
        self._encoder_config = encoder_config
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._workers: set[Worker] = set()
        self._waiting = 0
        self._running: set[asyncio.Task[Any]] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="bindserve-decode-")  # stays empty

    async def start(self) -> None:
        """Unavailable if not a single worker starts."""
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
        return len(self._workers)

    async def decode(self, modality: str, content: Blob) -> Tensor:
        """MediaError if the bytes are bad, Unavailable if too many wait.

        A caller that leaves while a worker is busy does not stop it: a new process costs more
        than most jobs, and the time limit holds anyway.
        """
        if self._waiting >= self._settings.waiting:
            raise Unavailable("too many files are waiting to be decoded", code="decode_queue_full")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                worker = await self._next_idle()
        except TimeoutError:
            raise Unavailable(
                "no decoding process became free in time", code="decode_queue_full"
            ) from None
        finally:
            self._waiting -= 1
        return await asyncio.shield(self._start(self._run(worker, modality, content)))

    async def _next_idle(self) -> "Worker":
        while (worker := await self._idle.get()) not in self._workers:
            pass  # it ended while it was idle
        return worker

    async def _run(self, worker: "Worker", modality: str, content: Blob) -> Tensor:
        try:
            async with asyncio.timeout(self._settings.timeout_s * BY_THE_CLOCK):
                answer = await worker.ask({"modality": modality}, content)
            tensor = read_answer(answer)
        except MediaError:
            self._idle.put_nowait(worker)
            raise
        except TimeoutError:
            await worker.kill()
            raise self._too_slow() from None
        except Unavailable:  # the content cannot be read: the worker waits for the rest
            await worker.kill()
            raise
        except WorkerLost as error:
            ended_by = await worker.ended_by()
            await worker.kill()
            logger.warning("a decoding process was lost on a %s: %s", modality, error)
            if ended_by == signal.SIGXCPU:
                raise self._too_slow() from None
            # By an operator, or for want of memory: not the file's doing.
            if ended_by == signal.SIGKILL:
                raise Unavailable("the decoding process was killed", code="decoder_lost") from None
            raise MediaError("the file cannot be decoded") from None
        self._idle.put_nowait(worker)
        return tensor

    def _too_slow(self) -> MediaError:
        seconds = self._settings.timeout_s
        return MediaError(f"decoding took more than {seconds:g} seconds of CPU time")

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
        """Killed by us or by anybody, busy or idle."""
        await worker.ended()
        self._workers.discard(worker)
        while True:
            try:
                return await self._add_worker()
            except WorkerLost as error:
                logger.error("a decoding process does not start (%s); trying again", error)
                await asyncio.sleep(RETRY_S)


class WorkerLost(Exception):
    """The process is gone, or says what no worker of ours says."""


class Worker:
    """One process and the socket to it."""

    def __init__(self, process: Process, answers: StreamReader, jobs: StreamWriter) -> None:
        self._process = process
        self._answers, self._jobs = answers, jobs

    @classmethod
    async def start(cls, settings: DecodeSettings, config: bytes, folder: str) -> "Worker":
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", WORKER, str(os.getpid())),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                cwd=folder,
                env=worker_environment(),
            )
        worker = cls(process, *await asyncio.open_connection(sock=ours))
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                ready, _ = await worker.ask(worker_settings(settings), MemoryBlob(config))
        except (TimeoutError, WorkerLost) as error:
            await worker.kill()
            raise WorkerLost(f"no sign of life ({error or 'timeout'})") from None
        except BaseException:
            await worker.kill()
            raise
        if not ready.get("isolated"):
            logger.info("decoding processes keep their network: this kernel does not let them go")
        return worker

    async def ask(self, header: dict[str, Any], content: Blob) -> Frame:
        """One job, one answer. At no time is more than a piece of the content held here."""
        if self._jobs.is_closing():  # uvloop raises RuntimeError on the write
            raise WorkerLost("it ended before the job")
        try:
            self._jobs.write(encode_head(header, content.size))
            async for piece in content.pieces():
                self._jobs.write(piece)
                await self._jobs.drain()
            return await read_frame(self._answers, MAX_TENSOR_BYTES)
        except (asyncio.IncompleteReadError, OSError, FrameError) as error:
            raise WorkerLost(str(error) or type(error).__name__) from None

    async def ended(self) -> None:
        await self._process.wait()
        self._jobs.close()

    async def ended_by(self) -> int | None:
        """The signal that ended it, not sent by us: SIGKILL is somebody's, SIGXCPU the limit's, any
        other a crash on its input."""
        try:
            return -await asyncio.wait_for(self._process.wait(), DYING_S)
        except TimeoutError:  # it lives, and says what no worker says
            return None

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended()


def worker_settings(settings: DecodeSettings) -> dict[str, Any]:
    return {
        "memory_bytes": settings.memory_bytes,
        "cpu_s": settings.timeout_s,
        "max_bytes": settings.max_bytes,
        "limits": dict(settings.limits),
    }


def worker_environment() -> dict[str, str]:
    """No secret of the server's; one thread for each of the libraries."""
    source = str(Path(server.__file__).parents[1])
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def read_answer(answer: Frame) -> Tensor:
    """Believe nothing: the process that wrote it has parsed hostile bytes."""
    header, payload = answer
    error = header.get("error")
    if error is not None:
        raise MediaError(str(error)[:300])
    try:
        return load(payload)["tensor"]
    except (SafetensorError, KeyError, ValueError) as failure:
        raise WorkerLost(f"not a tensor: {type(failure).__name__}") from None
