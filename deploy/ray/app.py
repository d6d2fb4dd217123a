"""The Ray Serve application: server replicas, with vLLM engines if the model has a language model,
and encoder replicas.
"""

from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from deploy.ray.encoder import EncoderReplica
from model_ext.config import has_language_model, read_document


class Arguments(BaseModel):
    """The arguments of `serve run deploy.ray.app:build NAME=VALUE...`, or `args:` in serve.yaml."""

    model_config = ConfigDict(extra="forbid")

    model: str  # Path of the model folder, which is the same on every machine.
    settings: dict[str, Any] = {}  # Settings by their names in server/settings.py.
    vllm_args: list[str] = []  # Flags of `vllm serve`.
    # GPUs of each server replica; more than one: tensor parallelism. Without a language model: 0.
    gpus: int = 0
    encoder_gpus: float = 0  # GPUs of each encoder replica; a fraction shares a GPU.
    servers: tuple[int, int] = (1, 8)  # Minimum and maximum number of server replicas.
    encoders: tuple[int, int] = (1, 16)  # Minimum and maximum number of encoder replicas.


def build(arguments: Arguments) -> Application:
    """Build the application that `serve run` starts: server replicas that use encoder replicas."""
    settings = {"model": arguments.model, **arguments.settings}
    parallel = [f"--tensor-parallel-size={arguments.gpus}"] if arguments.gpus > 1 else []
    encoder = (
        cast(Any, EncoderReplica)
        .options(
            ray_actor_options={"num_cpus": 1, "num_gpus": arguments.encoder_gpus},
            autoscaling_config=scaling(arguments.encoders, ongoing=16),
            max_ongoing_requests=64,
            health_check_period_s=2,
        )
        .bind(settings)
    )
    application: Application = (
        server_class(Path(arguments.model))
        .options(
            ray_actor_options={"num_cpus": 1, "num_gpus": arguments.gpus},
            autoscaling_config=scaling(arguments.servers, ongoing=128),
            # no limit, because the server limits requests itself (max_requests)
            max_ongoing_requests=1024,
            health_check_period_s=2,
            graceful_shutdown_timeout_s=60,
        )
        .bind({**settings, "vllm_args": (*parallel, *arguments.vllm_args)}, encoder)
    )
    return application


def server_class(model: Path) -> Any:
    """The deployment of the server replicas. Imports vLLM only for a language model."""
    if has_language_model(read_document(model)):
        from deploy.ray.engine import Server

        return Server
    from deploy.ray.encoder_server import EncoderServer

    return EncoderServer


def scaling(replicas: tuple[int, int], *, ongoing: int) -> dict[str, Any]:
    """Configure Ray to add replicas above `ongoing` concurrent requests per replica."""
    min_replicas, max_replicas = replicas
    return {
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_ongoing_requests": ongoing,
        "upscale_delay_s": 10,
        # Ray removes idle replicas late, because an engine needs minutes to start again.
        "downscale_delay_s": 600,
    }
