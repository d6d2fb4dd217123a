"""The supervisor: what `bindserve serve` itself is. It runs the server's processes, and again.

Two children: the encoding service, and the API with its engine. An engine that died stays dead in
vLLM, so its processes are started anew; encoders and files outlive it. Imports neither vLLM nor
torch: it has to live.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass
from pathlib import Path

from server.process.control import Address, Control, source_path
from server.process.restart_page import RestartPage
from server.process.scratch import scratch_folder
from server.settings import Settings

logger = logging.getLogger(__name__)

ENCODING, SERVING = "server.encoding.service", "server.api"  # modules
NAMES = {ENCODING: "the encoding service", SERVING: "the API with its engine"}
MOST_FAILURES = 5  # starts in a row that come to nothing; then the server ends
LONGEST_WAIT_S = 30
GRACE_S = 20  # to end, beyond the time that requests get to finish


def run(settings: Settings) -> int:
    """Until a signal comes, or a process cannot be started. Returns the exit code."""
    with scratch_folder(settings.upload_folder) as scratch:
        return asyncio.run(Supervisor(settings, scratch).run())


@dataclass
class Listener:
    socket: socket.socket
    address: Address


class Supervisor:
    def __init__(self, settings: Settings, scratch: Path) -> None:
        self.settings = settings
        self.scratch = scratch
        self.restart_page = RestartPage()
        self.listener: Listener | None = None
        self._encoding = Part(self, ENCODING)
        self._serving = Part(self, SERVING)

    async def run(self) -> int:
        """Whatever ends for good first ends the other: the API first, so that requests finish."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, told)
        kept = [asyncio.ensure_future(part.keep()) for part in (self._serving, self._encoding)]
        asked = asyncio.ensure_future(told.wait())
        try:
            await asyncio.wait({*kept, asked}, return_when=asyncio.FIRST_COMPLETED)
            failed = [task.result() for task in kept if task.done()]
            self.restart_page.pause()
            if self.listener is not None:
                self.listener.socket.close()
            for part, task in zip((self._serving, self._encoding), kept, strict=True):
                await part.stop()
                await task
            return failed[0] if failed else 0
        finally:
            asked.cancel()

    def _end(self, told: asyncio.Event) -> None:
        if told.is_set():  # the second time: at once
            self._serving.kill()
        told.set()


class Part:
    """A child process with all that it starts: one process group."""

    def __init__(self, supervisor: Supervisor, module: str) -> None:
        self._supervisor = supervisor
        self._module = module
        self._process: Process | None = None
        self._stopping = False
        self._restarts = 0
        self._ready = False  # since this start

    async def keep(self) -> int:
        """Start it, and again whenever it ends. Returns the exit code of the one that was the
        last: of the first start already, if that fails, because then it cannot work at all."""
        failures = 0
        while True:
            code = await self._run_once()
            if self._stopping:
                return 0
            failures = 0 if self._ready else failures + 1
            if failures > MOST_FAILURES or (failures and not self._restarts):
                return code if code > 0 else 1
            wait = min(LONGEST_WAIT_S, 2 ** (failures - 1)) if failures else 0
            logger.error("%s ended (%s); starting again", NAMES[self._module], cause(code))
            self._restarts += 1
            await asyncio.sleep(wait)

    async def stop(self) -> None:
        """Let it finish what it does; not for ever."""
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
            logger.error("%s does not end; killed", NAMES[self._module])
            self.kill()

    def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        self._ready = False
        control = Control()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", self._module, str(control.theirs.fileno())),
                pass_fds=[control.theirs.fileno()],
                env={**os.environ, "PYTHONPATH": source_path()},
                start_new_session=True,  # Ctrl-C reaches it through us alone
            )
            control.theirs.close()
            self._tell(control)
            listening = asyncio.ensure_future(self._listen(control))
            code = await self._process.wait()
            self.kill()  # what it left behind
            listening.cancel()
            await asyncio.wait([listening])
            return code
        finally:
            control.close()
            listener = self._supervisor.listener
            if self._module == SERVING and listener is not None and not self._stopping:
                self._supervisor.restart_page.resume(listener.socket)

    def _tell(self, control: Control) -> None:
        supervisor, listener = self._supervisor, self._supervisor.listener
        with contextlib.suppress(OSError):  # it is gone already
            control.start(
                supervisor.settings,
                supervisor.scratch,
                self._restarts,
                listener.socket if listener else None,
                listener.address if listener else None,
            )

    async def _listen(self, control: Control) -> None:
        supervisor = self._supervisor
        while (said := await control.next()) is not None:
            message, listener = said
            if "listening" in message and listener is not None:
                supervisor.listener = Listener(listener, Address(**message["listening"]))
                if not message["listening"]["tls"]:
                    supervisor.restart_page.resume(listener)
            elif "serving" in message:
                self._ready = True
                if self._module == SERVING:
                    supervisor.restart_page.pause()


def cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"status {code}"
