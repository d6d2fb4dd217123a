"""vLLM's flags: parsed by vLLM's own parser, with our defaults where the operator said nothing."""

import os
from argparse import Namespace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import torch
from vllm.config import CacheConfig
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

from server.settings import Settings

GiB = 1 << 30
CGROUP = Path("/sys/fs/cgroup")


class UsageError(ValueError):
    """The operator asked for something that does not exist or does not go together."""


def parse(settings: Settings) -> Namespace:
    """UsageError names the flag; argparse itself ends the program with status 2 for some."""
    parser = make_arg_parser(FlexibleArgumentParser(prog="bindserve serve MODEL --"))
    parser.set_defaults(**our_defaults(settings))
    args = parser.parse_args(list(settings.vllm_args))
    if args.model_tag is not None:
        raise UsageError(f"unexpected argument {args.model_tag!r}: MODEL was given already")
    args.model = str(settings.model)
    for flag in ("headless", "grpc", "tokens_only", "enable_scale_out"):
        if getattr(args, flag, False):
            raise UsageError(f"--{flag.replace('_', '-')} is not supported by bindserve")
    if args.api_server_count is None:
        args.api_server_count = 1  # more cost one set of encoders each: only on demand
    if args.api_server_count < 1:
        raise UsageError("--api-server-count must be at least 1")
    args.bindserve_utilization = args.gpu_memory_utilization  # None: server/api/memory.py chooses
    if args.gpu_memory_utilization is None:
        args.gpu_memory_utilization = CacheConfig.gpu_memory_utilization
    if args.enable_lora and current_platform.is_cpu():
        keep_an_empty_lora_slot(args)
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    check_exposure(args, settings)
    return args


def check_exposure(args: Namespace, settings: Settings) -> None:
    """Open to a network without keys: only if the operator says so."""
    locked = settings.api_key_file is not None or bool(api_keys(args))
    if not (locked or settings.no_auth or args.uds or is_loopback(args.host)):
        raise UsageError(
            f"--host {args.host or '(all)'} lets other machines in, and there is no API key: "
            "give --api-key-file FILE, or say --no-auth if everybody may use this server"
        )


def is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address((host or "").strip("[]")).is_loopback
    except ValueError:  # another name, or none: all interfaces
        return False


def keep_an_empty_lora_slot(args: Namespace) -> None:
    """vLLM 0.32 on a CPU gives requests without an adapter the one in the last slot: keep it empty.

    Adapters come from --lora-modules only (no route of ours loads another), so there is room.
    """
    args.max_loras = max(args.max_loras or 1, len(args.lora_modules or []) + 1)


def our_defaults(settings: Settings) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "served_model_name": [settings.name],
        "shutdown_timeout": 30,  # seconds that running requests get to finish
        "enable_prefix_caching": True,
        "gpu_memory_utilization": None,
    }
    if current_platform.is_cpu():
        # vLLM would reserve a share of all memory, and end if that is not free.
        defaults["kv_cache_memory_bytes"] = min(free_memory() // 4, 4 * GiB)
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            # vLLM would choose bfloat16, whose products such a CPU computes 8 to 31 times slower.
            defaults["dtype"] = "float32"
    return defaults


def free_memory() -> int:
    """Bytes that this process could still get: of the machine, and of its control group."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    try:
        most = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if most == "max" else max(0, min(free, int(most) - used))


def api_keys(args: Namespace) -> list[str]:
    """vLLM's ways to set keys, so that nobody who uses them is left without a lock."""
    keys = args.api_key or [os.environ.get("VLLM_API_KEY", "")]
    return [key for key in keys if key]
