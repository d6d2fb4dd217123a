"""Start a process that reads one file in a sandbox (server/encoding/decode/one_file.py)."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from server.encoding.decode.pool import worker_environment
from server.media.blob import Blob


async def start(module: str, content: Blob, job: Mapping[str, Any]) -> asyncio.subprocess.Process:
    """Run `module` with the file as standard input. Its arguments are this process's id, and `job`
    as JSON. The caller kills the process.
    """
    descriptor = await content.descriptor()
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", module, str(os.getpid()), json.dumps(job)),
            stdin=descriptor,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd="/",
            env=worker_environment(),
        )
    finally:
        os.close(descriptor)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill the process if it still runs, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.communicate()  # empties the pipe: without it, the pipe stays open
