"""The Ray Serve application: servers with engines, in front of them encoders that scale apart."""

from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from deploy.ray.encoder import EncoderReplica
from deploy.ray.engine import Server


class Arguments(BaseModel):
    """`serve run deploy.ray.app:build model=DIR gpus=1`, or `args:` in the YAML."""

    model_config = ConfigDict(extra="forbid")

    model: str  # the folder, at the same place on every machine
    settings: dict[str, Any] = {}  # any of server/settings.py
    vllm_args: list[str] = []  # flags of `vllm serve`
    gpus: int = 0  # of each server replica; more than one: tensor parallel
    encoder_gpus: float = 0  # of each encoder replica; a fraction shares a GPU
    servers: tuple[int, int] = (1, 8)  # replicas, at least and at most
    encoders: tuple[int, int] = (1, 16)


def build(arguments: Arguments) -> Application:
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
        cast(Any, Server)
        .options(
            ray_actor_options={"num_cpus": 1, "num_gpus": arguments.gpus},
            autoscaling_config=scaling(arguments.servers, ongoing=128),
            max_ongoing_requests=1024,  # admission is the server's: max_requests
            health_check_period_s=2,
            graceful_shutdown_timeout_s=60,
        )
        .bind({**settings, "vllm_args": (*parallel, *arguments.vllm_args)}, encoder)
    )
    return application


def scaling(replicas: tuple[int, int], *, ongoing: int) -> dict[str, Any]:
    """One more replica when each has more than `ongoing` requests."""
    least, most = replicas
    return {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": ongoing,
        "upscale_delay_s": 10,
        "downscale_delay_s": 600,  # engines take minutes to come back
    }
