"""Configure logging in the processes that do not import vLLM: supervisor and encoding service.

The format and the level (VLLM_LOGGING_LEVEL) are those of vLLM.
"""

import logging
import os
import sys
from typing import NoReturn

FORMAT = "%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s"
DATES = "%m-%d %H:%M:%S"


def configure() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT, DATES))
    logging.basicConfig(handlers=[handler], level=os.environ.get("VLLM_LOGGING_LEVEL", "INFO"))


def fail(message: str, code: int = 1) -> NoReturn:
    """Print one line and exit with status `code`. Used for errors at start-up."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)
