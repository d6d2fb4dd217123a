"""The supervisor: starts the server's child processes, and restarts a process that ends or stalls.

vLLM cannot revive a dead engine, so the API and its engine are restarted together. The encoders and
the stored files are not affected. The supervisor does not import vLLM or torch, so that a crash in
these libraries cannot end the supervisor.
"""

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.process.control import (
    Address,
    Alive,
    Control,
    Listening,
    Serving,
    Start,
    source_path,
)
from server.process.restart_page import RestartPage
from server.process.scratch import run_environment, run_folder, scratch_folder
from server.settings import Settings

logger = logging.getLogger(__name__)

# The server ends after more than this many consecutive failed starts. A start fails if the program
# ends before it is ready.
MAX_FAILURES = 5
MAX_DESCRIPTORS = 65_535  # Maximum number of descriptors that a process of the server may open.
MAX_WAIT_S = 30  # Maximum seconds between two starts.
TICK_S = 1  # Seconds between two checks for stalled processes.
GRACE_S = 20  # Seconds until a child is killed, in addition to the time for its running requests.


@dataclass(frozen=True, slots=True)
class Program:
    """A child process that runs `python -m module`, with its control socket as first argument."""

    name: str  # name of the program in log lines
    module: str
    # Whether the restart page answers requests while the program is down.
    answers_http: bool = False
    arguments: tuple[str, ...] = ()  # further command-line arguments


def run(settings: Settings, programs: tuple[Program, ...]) -> int:
    """Run all programs until a signal arrives or one program cannot be started. Returns the exit
    code.

    At the end, the programs are stopped in the order of `programs`.
    """
    allow_descriptors()
    with scratch_folder(settings.upload_folder) as scratch, run_folder(scratch) as folder:
        environment = run_environment(folder)
        return asyncio.run(Supervisor(settings, scratch, programs, environment).run())


def allow_descriptors() -> None:
    """Raise the soft limit of open descriptors, which the programs inherit. Each waiting job of the
    encoding service or of a side model holds two descriptors, and the usual soft limit is 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(hard, MAX_DESCRIPTORS)
    if soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


@dataclass
class Listener:
    socket: socket.socket
    address: Address


class Supervisor:
    def __init__(
        self,
        settings: Settings,
        scratch: Path,
        programs: tuple[Program, ...],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`environment`: variables for the programs, in addition to those of this process."""
        self.environment = environment or {}
        self.settings = settings
        self.scratch = scratch
        self.restart_page = RestartPage()
        self.listener: Listener | None = None
        self._children = [Child(self, program) for program in programs]

    async def run(self) -> int:
        """Run all children. When a child ends and cannot be restarted, stop the others.

        The API is stopped first, so that its requests can finish.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, stop)
        keepers = [asyncio.ensure_future(child.keep()) for child in self._children]
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({*keepers, stopped}, return_when=asyncio.FIRST_COMPLETED)
            codes = [keeper.result() for keeper in keepers if keeper.done()]
            self.restart_page.pause()
            if self.listener is not None:
                self.listener.socket.close()
            for child, keeper in zip(self._children, keepers, strict=True):
                await child.stop()
                await keeper
            return codes[0] if codes else 0
        finally:
            stopped.cancel()

    def _stop(self, stop: asyncio.Event) -> None:
        if stop.is_set():  # on a second signal, do not wait for running requests
            self._children[0].kill()
        stop.set()


class Child:
    """A running program: a process group that contains all processes that the program starts."""

    def __init__(self, supervisor: Supervisor, program: Program) -> None:
        self._supervisor = supervisor
        self._program = program
        self._process: Process | None = None
        self._stopping = False
        self._restarts = 0
        self._ready = False  # whether the program has answered requests since this start
        self._stalls = Stalls()

    async def keep(self) -> int:
        """Start the program, and restart it each time it ends. Returns 0 when the server stops.

        Returns the program's exit code if its first start fails, or after more than MAX_FAILURES
        consecutive failed starts.
        """
        failures = 0
        while True:
            code = await self._run_once()
            if self._stopping:
                return 0
            failures = 0 if self._ready else failures + 1
            if failures > MAX_FAILURES or (failures and not self._restarts):
                return code if code > 0 else 1
            wait = min(MAX_WAIT_S, 2 ** (failures - 1)) if failures else 0
            logger.error("%s ended (%s); restarting it", self._program.name, cause(code))
            self._restarts += 1
            await asyncio.sleep(wait)

    async def stop(self) -> None:
        """Ask the program to end. Kill it after the drain time and GRACE_S."""
        self._stopping = True
        process, listener = self._process, self._supervisor.listener
        if process is None:
            return
        drain_s = listener.address.drain_s if self._ready and listener else 0
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), drain_s + GRACE_S)
        except TimeoutError:
            logger.error("%s does not end; killing it", self._program.name)
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        self._ready = False
        self._stalls = Stalls()
        control = Control()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self._program.module, str(control.childs.fileno())),
                *self._program.arguments,
                pass_fds=[control.childs.fileno()],
                env={**os.environ, **self._supervisor.environment, "PYTHONPATH": source_path()},
                # Start a new session, so that a terminal's Ctrl-C reaches only the supervisor.
                start_new_session=True,
            )
            control.childs.close()
            self._send_start(control)
            reader = asyncio.ensure_future(self._read_messages(control))
            watcher = asyncio.ensure_future(self._kill_when_stalled())
            code = await self._process.wait()
            self.kill()  # this signal ends child processes of the program that still run
            for task in (reader, watcher):
                task.cancel()
            await asyncio.wait([reader, watcher])
            return code
        finally:
            control.close()
            listener = self._supervisor.listener
            if self._program.answers_http and listener is not None and not self._stopping:
                self._supervisor.restart_page.resume(listener.socket)

    def _send_start(self, control: Control) -> None:
        supervisor, listener = self._supervisor, self._supervisor.listener
        message = Start(
            supervisor.settings,
            supervisor.scratch,
            self._restarts,
            listener.address if listener else None,
        )
        with contextlib.suppress(OSError):  # the child may have already ended
            control.start(message, listener.socket if listener else None)

    async def _read_messages(self, control: Control) -> None:
        supervisor = self._supervisor
        while (packet := await control.next()) is not None:
            match packet:
                case Listening(address), socket.socket() as listener:
                    supervisor.listener = Listener(listener, address)
                    if not address.tls:
                        supervisor.restart_page.resume(listener)
                case Alive(pid, stalled_s), _:
                    self._stalls.heard(pid, stalled_s)
                case Serving(), _:
                    self._ready = True
                    if self._program.answers_http:
                        supervisor.restart_page.pause()

    async def _kill_when_stalled(self) -> None:
        """Kill the program when it has made no progress for `stall_restart_s`; `keep` restarts it.

        Ignores the time before the program answers requests, in which it loads and compiles.
        """
        while True:
            await asyncio.sleep(TICK_S)
            if not self._ready or self._stopping:
                continue
            self._stalls.tick()
            if (seconds := self._stalls.seconds()) >= self._supervisor.settings.stall_restart_s:
                logger.error("%s has stalled for %.0f s; killing it", self._program.name, seconds)
                return self.kill()


class Stalls:
    """Measures for how long a program has made no progress: its processes have sent no messages, or
    have reported that they are stalled.

    Counts ticks instead of reading a clock, because a clock also runs while the supervisor itself
    is stopped.
    """

    def __init__(self) -> None:
        self._silent_s: dict[int, float] = {}  # process id -> seconds without a message
        self._stalled_s: dict[int, float] = {}

    def heard(self, pid: int, stalled_s: float) -> None:
        self._silent_s[pid], self._stalled_s[pid] = 0, stalled_s

    def tick(self) -> None:
        for pid in self._silent_s:
            self._silent_s[pid] += TICK_S

    def seconds(self) -> float:
        silent = self._silent_s.items()
        return max((seconds + self._stalled_s[pid] for pid, seconds in silent), default=0)


def cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"
