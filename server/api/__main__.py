"""Run the API in a child process of `bindserve serve`: `python -m server.api`.

A model folder without a language model is served without vLLM, which is then not imported.
With vLLM's --api-server-count above 1, this process starts several API processes. On a start-up
error, prints one line and exits with status 1 or 2.
vLLM's engine process imports this module too, before it imports the engine.
"""

# ruff: noqa: E402
import gc

gc.disable()  # garbage collections would take a quarter of the time of the imports below

import os
import signal

from cache_index.errors import CacheError
from model_ext.config import has_language_model, read_document
from model_ext.errors import ConfigError
from server import logs
from server.api.middleware.auth import KeyFileError
from server.engine.exposure import UsageError
from server.errors import Unavailable
from server.process.child import die_with_parent
from server.process.control import Parent

gc.enable()


def main() -> None:
    parent = Parent.connect()
    die_with_parent(os.getppid(), by=signal.SIGTERM)
    try:
        if has_language_model(read_document(parent.settings.model)):
            from server.api.launch import run_api  # this import loads vLLM
        else:
            from server.api.launch_encoders import run_api
        run_api(parent)
    except KeyboardInterrupt:
        pass
    except UsageError as error:
        logs.fail(str(error), code=2)
    except (CacheError, ConfigError, KeyFileError, OSError, Unavailable) as error:
        logs.fail(str(error))


if __name__ == "__main__":
    main()
