"""Parse vLLM's flags with vLLM's own parser, and with this server's defaults."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from vllm.config import CacheConfig
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.platforms import current_platform
from vllm.utils.argparse_utils import FlexibleArgumentParser

from model_ext.plugin import TOOL_PARSER
from server.engine.exposure import UsageError as UsageError
from server.engine.exposure import api_keys as api_keys
from server.engine.exposure import check_exposure
from server.settings import Settings

GiB = 1 << 30
CGROUP = Path("/sys/fs/cgroup")


def parse(settings: Settings) -> Namespace:
    """Parse vLLM's flags in `settings.vllm_args`. Raises UsageError, or SystemExit(2) from
    argparse.
    """
    parser = make_arg_parser(FlexibleArgumentParser(prog="bindserve serve MODEL --"))
    parser.set_defaults(**server_defaults(settings))
    args = parser.parse_args(list(settings.vllm_args))
    if args.model_tag is not None:
        raise UsageError(f"unexpected argument {args.model_tag!r}: give MODEL once, before --")
    args.model = str(settings.model)
    for flag in ("headless", "grpc", "tokens_only", "enable_scale_out"):
        if getattr(args, flag, False):
            raise UsageError(f"--{flag.replace('_', '-')} is not supported by bindserve")
    if args.api_server_count is None:
        # Start one API process by default. vLLM's own default depends on data parallelism.
        args.api_server_count = 1
    if args.api_server_count < 1:
        raise UsageError("--api-server-count must be at least 1")
    if args.structured_outputs_config.backend == "auto":
        # vLLM's default "auto" lets the first client's request choose the backend for all clients.
        # Use xgrammar unless the operator chooses another, because the server limits only
        # xgrammar's compilations.
        args.structured_outputs_config.backend = "xgrammar"
    # None: server/api/launch/memory.py chooses the engine's share of the GPU's memory.
    args.bindserve_utilization = args.gpu_memory_utilization
    if args.gpu_memory_utilization is None:
        args.gpu_memory_utilization = CacheConfig.gpu_memory_utilization
    if args.enable_lora and current_platform.is_cpu():
        add_empty_lora_slot(args)
    try:
        validate_parsed_serve_args(args)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    check_exposure(args, settings)
    return args


def add_empty_lora_slot(args: Namespace) -> None:
    """Reserve one LoRA slot that no adapter uses.

    On a CPU, vLLM 0.32 applies the adapter in the last slot to requests without an adapter. The
    slot stays empty, because only --lora-modules loads adapters.
    """
    args.max_loras = max(args.max_loras or 1, len(args.lora_modules or []) + 1)


def server_defaults(settings: Settings) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "served_model_name": [settings.name],
        "shutdown_timeout": 30,  # seconds that running requests have to finish
        "enable_prefix_caching": True,
        "gpu_memory_utilization": None,
        # Requests with `tools` work without flags. Another parser replaces this one.
        "enable_auto_tool_choice": True,
        "tool_call_parser": TOOL_PARSER[0],
        "exclude_tools_when_tool_choice_none": True,
        # The page shows how many tokens of a prompt the prefix cache contained.
        "enable_prompt_tokens_details": settings.page,
    }
    if current_platform.is_cpu():
        # Set the size explicitly: by default, vLLM reserves a share of the machine's memory and
        # exits if less is free.
        defaults["kv_cache_memory_bytes"] = min(free_memory() // 4, 4 * GiB)
        if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            # vLLM's default is bfloat16, in which a CPU without bfloat16 instructions computes
            # matrix products 8 to 31 times slower than in float32.
            defaults["dtype"] = "float32"
    return defaults


def free_memory() -> int:
    """Return the free memory of the machine or of the process's control group, whichever is less,
    in bytes.
    """
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return free if limit == "max" else max(0, min(free, int(limit) - used))
