"""The processes of a training run: the rank of this process, and values that all processes share.

A launcher (torchrun, deepspeed) sets the environment. Without a launcher, the run has one process.
"""

import os
import socket

import deepspeed
import torch
import torch.distributed as dist

SINGLE_PROCESS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}


def join() -> torch.device:
    """Initialise the process group and return the device of this process."""
    if "RANK" not in os.environ:  # set RANK, because DeepSpeed otherwise requires mpi4py
        os.environ.update(SINGLE_PROCESS, MASTER_PORT=str(_free_port()))
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        deepspeed.init_distributed("nccl")
        return device
    # Prevent DeepSpeed from compiling an all-reduce for the processes of one host, which takes a
    # minute and needs a C++ compiler.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    return torch.device("cpu")


def rank() -> int:
    return dist.get_rank()


def world() -> int:
    return dist.get_world_size()


def first_on_host() -> bool:
    return os.environ["LOCAL_RANK"] == "0"


def mean(value: torch.Tensor) -> float:
    """Average a scalar over all processes."""
    total = value.detach().float().clone()
    dist.all_reduce(total)
    return float(total.item()) / world()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
