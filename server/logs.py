"""Log lines of the processes that do not import vLLM: `serve` itself and the encoding service.

In vLLM's format, at its level (VLLM_LOGGING_LEVEL).
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
    """The end of a process that cannot start: one line, no stack."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    raise SystemExit(code)
