"""Write a `SideData` (the data of a side model) into a file in memory, and read it in another
process.

The file is one line of JSON, and then the arrays in safetensors format.
"""

import asyncio
import json
import os

from safetensors import SafetensorError
from safetensors.numpy import load, save

from model_ext.side import SideData
from server.media.blob import memory_file
from server.process.error_message import MessageError

MAX_BYTES = 1 << 28  # A sound of 10 minutes has 19 MB; a picture of 2048 x 2048 pixels has 13 MB.


def write(data: SideData) -> int:
    """Return the descriptor of a file in memory with the data. The caller closes it."""
    arrays = save(dict(data.arrays)) if data.arrays else b""
    return memory_file(json.dumps(data.document).encode() + b"\n" + arrays)


async def written(data: SideData) -> int:
    """Do the same as `write` in a thread. If the caller is cancelled, the file is closed."""
    work = asyncio.ensure_future(asyncio.to_thread(write, data))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(lambda done: os.close(done.result()))
        raise


async def loaded(descriptor: int) -> SideData:
    """Do the same as `read` in a thread. If the caller is cancelled, the thread still reads the
    file and closes it.
    """
    return await asyncio.shield(asyncio.to_thread(read, descriptor))


def read(descriptor: int) -> SideData:
    """Read the whole file, and close it. The arrays are read-only.

    The other process may have read hostile input, so its file is checked.
    Raises MessageError: when the file is too large or breaks the format.
    """
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size > MAX_BYTES:
            raise MessageError("the file of a side model is too large")
        file.seek(0)
        head, _, payload = file.read(MAX_BYTES).partition(b"\n")
    try:
        document = json.loads(head)
        arrays = load(payload) if payload else {}
    except (ValueError, RecursionError, SafetensorError, KeyError):
        raise MessageError("the file of a side model breaks the format") from None
    if not isinstance(document, dict):
        raise MessageError("the file of a side model breaks the format")
    for array in arrays.values():
        array.setflags(write=False)  # read-only, because many requests share a cached result
    return SideData(document, arrays)
