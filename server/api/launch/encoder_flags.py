"""Parse the flags after `--` of `bindserve serve` for a model without a language model.

They have the names and meanings of vLLM's flags, but this module does not import vLLM. The parser
rejects the flags of vLLM's engine.
"""

import json
import ssl
from argparse import ArgumentParser, Namespace
from typing import Any, NoReturn

from server.engine.exposure import UsageError, check_exposure
from server.settings import Settings


class Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. This model has no language model, so vLLM does not run")


def parse(settings: Settings) -> Namespace:
    """Parse the flags in `settings.vllm_args`. Raises UsageError."""
    parser = Parser(prog="bindserve serve MODEL --", add_help=False, allow_abbrev=False)
    add_server_flags(parser, settings)
    parser.add_argument("--api-key", nargs="+")
    parser.add_argument("--root-path")
    parser.add_argument("--middleware", action="append", default=[])
    parser.add_argument("--disable-fastapi-docs", action="store_true")
    for name in ("origins", "methods", "headers"):
        default = [] if name == "origins" else ["*"]
        parser.add_argument(f"--allowed-{name}", type=strings, default=default)
    parser.add_argument("--allow-credentials", action="store_true")
    args = parser.parse_args(list(settings.vllm_args))
    args.otlp_traces_endpoint = None
    check_exposure(args, settings)
    return args


def add_server_flags(parser: ArgumentParser, settings: Settings) -> None:
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.port)
    parser.add_argument("--uds")
    parser.add_argument("--shutdown-timeout", type=int, default=30)
    parser.add_argument("--uvicorn-log-level", default="info")
    parser.add_argument("--disable-uvicorn-access-log", action="store_true")
    for name in ("keyfile", "certfile", "ca-certs"):
        parser.add_argument(f"--ssl-{name}")
    parser.add_argument("--ssl-cert-reqs", type=int, default=int(ssl.CERT_NONE))


def strings(text: str) -> list[str]:
    """Parse a JSON list of strings, the format that vLLM's flags have."""
    values: Any = json.loads(text)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(text)
    return values
