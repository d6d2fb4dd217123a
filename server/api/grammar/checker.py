"""Check grammars in processes that can be killed, before the engine compiles them.

Each grammar is first compiled in a process with limits of CPU time and memory (process.py), because
the engine (vLLM's xgrammar backend) compiles in threads, which cannot be stopped. Each client has
at most one compilation at a time. Results are cached by the content of the grammar.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import socket
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from server.api.grammar.wire import LENGTH, CompileJob, Kind, encode
from server.context import client
from server.encoding.decode.pool import worker_environment
from server.errors import BadRequest, TooManyRequests, Unavailable
from server.metrics import stage
from server.settings import GrammarLimits

logger = logging.getLogger(__name__)

PROCESS = "server.api.grammar.process"
START_TIMEOUT_S = 120  # The process imports torch, which is slow from a cold disk.
# The limit of a compilation's elapsed time is WAIT_S plus a multiple of its limit of CPU time,
# because the process has low priority.
WAIT_S = 30
# If the template process forks no child for this long, it has stalled and gets replaced.
FORK_TIMEOUT_S = 30
MAX_TIME_PER_CPU_TIME = 4
MAX_ANSWER_BYTES = 1 << 16
MAX_RESULTS = 1024  # maximum number of results in the cache
MAX_WAITING_PER_CLIENT = 64

# Returns the first message to the template process: the tokenizer in xgrammar's JSON, and options.
Start = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    error: str | None  # Why the grammar is rejected, or None.
    size: int = 0  # Bytes of the compiled grammar.


@dataclass(frozen=True, slots=True)
class Grammar:
    kind: Kind
    spec: str

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(f"{self.kind}:{self.spec}".encode(errors="surrogatepass")).digest()


class GrammarChecker:
    def __init__(self, start: Start, limits: GrammarLimits, engine_cache_bytes: int) -> None:
        """`engine_cache_bytes`: the size of the engine's cache of compiled grammars. The checker's
        cache of results removes a grammar before the engine's cache does. Therefore, the checker
        compiles each grammar before the engine compiles it.
        """
        self._template = Template(start)
        self._limits = limits
        self._max_cached_bytes = engine_cache_bytes // 2
        self._results: OrderedDict[bytes, Result] = OrderedDict()
        self._cached_bytes = 0
        self._slots = asyncio.Semaphore(limits.processes)
        self._queues: defaultdict[str, ClientQueue] = defaultdict(ClientQueue)

    async def check(self, grammar: Grammar, field: str) -> None:
        """Check the grammar in a request's field by compiling it. Cancelling the caller kills the
        compilation.

        Raises BadRequest: when the grammar is not valid, or compiling or using it costs too much.
        Raises TooManyRequests: when too many compilations of the client wait.
        Raises Unavailable: when the machine is too busy, or a process does not start or is killed.
        """
        digest = grammar.digest
        if digest not in self._results:
            with stage("grammar"):
                result = await self._in_turn(grammar, digest, field)
        else:
            result = self._results[digest]
        self._remember(digest, result)
        if result.error is not None:
            raise BadRequest(f"{field} {result.error}", param=field, code="invalid_grammar")

    def _remember(self, digest: bytes, result: Result) -> None:
        previous = self._results.pop(digest, Result(None))
        self._results[digest] = result
        self._cached_bytes += result.size - previous.size
        while len(self._results) > MAX_RESULTS or self._cached_bytes > self._max_cached_bytes:
            _, oldest = self._results.popitem(last=False)
            self._cached_bytes -= oldest.size

    async def close(self) -> None:
        await self._template.close()

    async def _in_turn(self, grammar: Grammar, digest: bytes, field: str) -> Result:
        """Compile the grammar. Waits until no other compilation of the client runs, and then until
        fewer than `processes` compilations run.
        """
        caller = client()
        queue = self._queues[caller]
        if queue.waiting >= MAX_WAITING_PER_CLIENT:
            raise TooManyRequests(
                f"more than {MAX_WAITING_PER_CLIENT} grammars of this client wait for compilation",
                param=field,
                code="rate_limit_exceeded",
            )
        queue.waiting += 1
        try:
            async with queue.lock:
                # Look again: another request may have compiled the same grammar in the meantime.
                if digest in self._results:
                    return self._results[digest]
                async with self._slots:
                    return await self._compile(grammar)
        finally:
            queue.waiting -= 1
            if not queue.waiting:
                self._queues.pop(caller, None)

    async def _compile(self, grammar: Grammar) -> Result:
        limits = self._limits
        job = CompileJob(
            grammar.kind,
            grammar.spec,
            limits.cpu_s,
            limits.memory_bytes,
            limits.compiled_bytes,
            limits.mask_ms,
        )
        connection = await self._template.fork()
        try:
            async with asyncio.timeout(WAIT_S + limits.cpu_s * MAX_TIME_PER_CPU_TIME):
                answer = await ask(connection, job)
        except TimeoutError:
            raise Unavailable("the server is too busy to compile this grammar") from None
        except (EOFError, OSError):  # for example, the kernel killed the process
            raise Unavailable("the process that compiles this grammar ended") from None
        finally:
            connection.close()  # the kernel ends a process that still compiles
        if "limit" in answer:
            return Result(
                f"cannot be compiled within {limits.cpu_s:g} s of CPU time and "
                f"{limits.memory_bytes >> 20} MiB of memory"
            )
        return Result(answer["error"] and str(answer["error"])[:300], int(answer["size"]))


class ClientQueue:
    """Counts the compilations of one client that wait or run."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


class Template:
    """Starts and stops the template process, which forks a child for each grammar. It starts at the
    first use, and again after it has ended.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._control: socket.socket | None = None

    async def fork(self) -> socket.socket:
        """Make the template process fork a child. Returns the connection to the child.

        Raises Unavailable: when the template process ends, does not start or does not respond. The
        next call starts a new one.
        """
        control = await self._running()
        near, far = socket.socketpair()
        near.setblocking(False)
        try:
            with far:
                socket.send_fds(control, [b"f"], [far.fileno()])
            async with asyncio.timeout(FORK_TIMEOUT_S):
                await receive(near)
        except TimeoutError:
            near.close()
            logger.error("the process that compiles grammars does not respond: it is replaced")
            await self._replace(control)
            raise Unavailable("the process that compiles grammars does not respond") from None
        except (EOFError, OSError):
            near.close()
            raise Unavailable("the process that compiles grammars ended") from None
        except BaseException:
            near.close()
            raise
        return near

    async def _replace(self, stalled: socket.socket) -> None:
        """End the process that this socket controls, unless another call has already ended it."""
        async with self._starting:
            if self._control is stalled:
                await self.close()

    async def close(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._process = self._control = None

    async def _running(self) -> socket.socket:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self.close()
                await self._start_process()
            assert self._control is not None
            return self._control

    async def _start_process(self) -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        self._control = near
        with far:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", PROCESS, str(os.getpid())),
                stdin=far.fileno(),
                env=worker_environment(),
            )
        try:
            # `start` builds the tokenizer's table, which takes about a second.
            start = await asyncio.to_thread(self._start)
            async with asyncio.timeout(START_TIMEOUT_S):
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(near, encode(start))
                await receive(near)
        except (EOFError, OSError, TimeoutError):
            await self.close()
            logger.error("the process that compiles grammars does not start")
            raise Unavailable("the process that compiles grammars does not start") from None
        except BaseException:
            await self.close()
            raise


async def ask(connection: socket.socket, job: CompileJob) -> dict[str, Any]:
    """Send a job and receive the answer: {"error", "size"} from compilation.py, or {"limit"} if the
    compilation exceeded a limit of the job. Raises EOFError, OSError.
    """
    await asyncio.get_running_loop().sock_sendall(connection, encode(asdict(job)))
    return await receive(connection)


async def receive(connection: socket.socket) -> dict[str, Any]:
    """Raises EOFError, OSError."""
    import json

    (length,) = LENGTH.unpack(await receive_exactly(connection, LENGTH.size))
    message: dict[str, Any] = json.loads(
        await receive_exactly(connection, min(length, MAX_ANSWER_BYTES))
    )
    return message


async def receive_exactly(connection: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), bytearray()
    while len(data) < size:
        piece = await loop.sock_recv(connection, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)
