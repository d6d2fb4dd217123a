"""Run the API in a child process of `bindserve serve`: `python -m server.api`.

If the model folder has no language model, this process does not import vLLM.
With vLLM's --api-server-count above 1, this process starts several API processes. On a start-up
error, prints one line and exits with status 1 or 2.
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cache_index.errors import CacheError
from model_ext.config import has_language_model, read_document
from model_ext.errors import ConfigError
from server import logs
from server.api.middleware.auth import KeyFileError
from server.engine.exposure import UsageError
from server.errors import Unavailable
from server.process.child import die_with_parent
from server.process.control import Parent


def main() -> None:
    # A thread with a client's large document then delays the event loop by at most 1 ms at a time.
    sys.setswitchinterval(0.001)
    parent = Parent.connect()
    die_with_parent(os.getppid(), by=signal.SIGTERM)
    try:
        with no_collection():
            if has_language_model(read_document(parent.settings.model)):
                from server.api.launch.engine import run_api  # this import loads vLLM
            else:
                from server.api.launch.encoders import run_api
        run_api(parent)
    except KeyboardInterrupt:
        pass
    except UsageError as error:
        logs.fail(str(error), code=2)
    except (CacheError, ConfigError, KeyFileError, OSError, Unavailable) as error:
        logs.fail(str(error))


@contextmanager
def no_collection() -> Iterator[None]:
    """Disable garbage collection, which takes much of the CPU time of vLLM's imports
    (docs/measurements.md).
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    # vLLM started this process for its engine. Import the engine now, without garbage collection.
    with no_collection():
        import vllm.v1.engine.core  # noqa: F401
