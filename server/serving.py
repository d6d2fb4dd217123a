"""The child process of `serve` that holds the API, or starts several, and the engine's processes.

`python -m server.serving`. What keeps it from starting is told in one line.
"""

import os
import signal

from cache_index.errors import CacheError
from model_ext.config import ConfigError
from server import launch, logs
from server.auth import KeyFileError
from server.control import Parent
from server.errors import Unavailable
from server.sandbox import die_with_parent
from server.vllm_args import UsageError


def main() -> None:
    parent = Parent.connect()
    die_with_parent(os.getppid(), by=signal.SIGTERM)
    try:
        launch.run(parent)
    except KeyboardInterrupt:
        pass
    except UsageError as error:
        logs.fail(str(error), code=2)
    except (CacheError, ConfigError, KeyFileError, OSError, Unavailable) as error:
        logs.fail(str(error))


if __name__ == "__main__":
    main()
