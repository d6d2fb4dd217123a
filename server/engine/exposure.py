"""Check that a server has API keys if other machines can reach the server.

Does not import vLLM, so that `serve` can run this check before vLLM is imported.
"""

import os
from argparse import Namespace

from cache_index.loopback import is_loopback
from server.settings import Settings


class UsageError(ValueError):
    """Raised when a flag is unsupported, has a bad value or contradicts another flag."""


def check_exposure(args: Namespace, settings: Settings) -> None:
    """Check that a server without API keys is not reachable from other machines.

    Raises UsageError: when it is reachable and the operator has not set `no_auth`.
    """
    has_keys = settings.api_key_file is not None or bool(api_keys(args))
    if not (has_keys or settings.no_auth or args.uds or is_loopback(args.host)):
        raise UsageError(
            f"--host {args.host or '(all)'} is reachable from other machines, and there is no "
            "API key: give --api-key-file FILE, or --no-auth to allow requests without a key"
        )


def api_keys(args: Namespace) -> list[str]:
    """Return the API keys of vLLM's flag --api-key or the variable VLLM_API_KEY. This server
    accepts them, too.
    """
    keys = args.api_key or [os.environ.get("VLLM_API_KEY", "")]
    return [key for key in keys if key]


def weaviate_address(settings: Settings) -> tuple[str, int]:
    """Parse `--weaviate HOST:PORT`.

    Raises UsageError: for another form, or when other machines can reach the address and the
    operator has not set `no_auth`, because this listener has no keys.
    """
    host, _, port = (settings.weaviate or "").rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not int(port) < 1 << 16:
        raise UsageError(f"--weaviate {settings.weaviate}: expected HOST:PORT")
    if not (settings.no_auth or is_loopback(host)):
        raise UsageError(
            f"--weaviate {settings.weaviate} is reachable from other machines, and Weaviate's "
            "client sends no API key: give --no-auth to allow requests without a key there"
        )
    return host, int(port)
