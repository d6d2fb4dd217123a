"""Plan a deployment: the GPUs, cores and processes that a rate of requests needs, and the cost.

    python -m deploy.plan --rate 1000 --share image=0.5,video=0.05 --gpu-hour 3

The plan is computed from the constants below by plain arithmetic, which docs/scaling.md explains.
Each constant is either MEASURED (on CPUs by `python -m deploy.measure`, on a GPU as
docs/measurements.md says) or a LIMIT of the hardware. The engine is assumed to reach the share
`efficiency` of a LIMIT.
"""

import argparse
import math
from dataclasses import dataclass, field

HOUR = 3600
MODALITIES = ("image", "audio", "video", "point")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """An H100 SXM: LIMITS of its data sheet, and encoder speeds MEASURED on an H200.

    Both cards have the same arithmetic units.
    """

    bandwidth: float = 3.35e12  # Memory bandwidth in bytes/s.
    flops: float = 989e12  # FLOP/s of dense matrix products in bf16.
    memory: float = 80e9
    efficiency: float = 0.6  # Assumed: the engine's share of LIMITS (published: 0.6 to 0.85).
    encode_efficiency: float = 0.48  # MEASURED: share of `flops` that encoders reach in bf16.
    encode_float32: float = 1 / 12  # MEASURED: encoders' speed in float32 / speed in bf16.
    cloud_flops: float = 123e12  # MEASURED: FLOP/s for batches of point clouds in bf16.
    cloud_float32: float = 1 / 4  # MEASURED: point clouds' speed in float32 / speed in bf16.


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A LLaMA of 7B in bf16, and ImageBind-huge. One multiply-add counts as two FLOP."""

    weights: float = 13.5e9  # bytes of the LLM's weights, which each step of the engine reads
    parameters: float = 6.74e9
    # Bytes of one token in the KV cache: 2 (key and value) x 32 layers x 4096 numbers x 2 bytes.
    kv_per_token: float = 2 * 32 * 4096 * 2
    # FLOP per request: the bind network, and the value matrix of each layer.
    conditioning: float = 2 * 1.145e9
    delta: float = 32 * 4096 * 2  # Bytes of a running request's vectors for the LLM's 32 layers.
    encode: dict[str, float] = field(  # FLOP to encode one attachment.
        default_factory=lambda: {
            "image": 0.33e12,
            "audio": 0.12e12,
            "video": 4.95e12,
            "point": 0.036e12,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """MEASURED on one core of an AVX2 server."""

    decode_s: dict[str, float] = field(  # CPU seconds to decode one attachment
        default_factory=lambda: {"image": 0.02, "audio": 0.0034, "video": 0.055, "point": 0.0001}
    )
    json_per_s: float = 790  # Requests/s of one API process, without the time to send events.
    events_per_s: float = 25_000  # Server-sent events/s of one API process.


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    rate: float  # Requests/s.
    shares: dict[str, float]  # Attachments per request by modality, on average.
    cached: float = 0.0  # Share of attachments whose embedding is in the result cache.
    prompt: int = 60  # Tokens of a prompt.
    answer: int = 128  # Tokens of an answer.
    # Server-sent events per token: 1 by default, 0.25 with --stream-interval 4.
    events: float = 1.0
    cache_rows: float = 1e6  # Vectors in the retrieval cache, of 1024 numbers of 2 bytes.
    encode_dtype: str = "bfloat16"  # Dtype of the encoders: "bfloat16" or "float32".
    language_model: bool = True  # False: embeddings only, with one response per request.


@dataclass(frozen=True, slots=True)
class Plan:
    batch: int  # maximum number of requests in one GPU's batch
    step_s: float
    requests_per_gpu: float
    engine_gpus: float
    encoder_gpus: float
    retrieval_gpus: float
    decode_cores: float
    api_processes: float

    @property
    def gpus(self) -> int:
        return math.ceil(self.engine_gpus + self.encoder_gpus + self.retrieval_gpus)

    def bottleneck(self) -> str:
        """Return the name of the part that first reaches its limit, with one GPU and 16 cores."""
        needs = {
            "engine": self.engine_gpus,
            "encoders": self.encoder_gpus,
            "retrieval": self.retrieval_gpus,
            "decoding": self.decode_cores / 16,
        }
        return max(needs, key=lambda name: needs[name])


def plan(traffic: Traffic, gpu: Gpu = Gpu(), model: Model = Model(), host: Host = Host()) -> Plan:
    context = traffic.prompt + traffic.answer / 2  # average tokens of a request in the KV cache
    free = gpu.memory * 0.9 - model.weights
    batch = int(free / ((traffic.prompt + traffic.answer) * model.kv_per_token + model.delta))
    read = model.weights + batch * context * model.kv_per_token
    computed = batch * 2 * model.parameters
    step_s = max(read / gpu.bandwidth, computed / gpu.flops) / gpu.efficiency
    prefill = 2 * model.parameters * traffic.prompt + model.conditioning
    per_request_s = traffic.answer * step_s / batch + prefill / (gpu.flops * gpu.efficiency)
    events = traffic.answer * traffic.events if traffic.language_model else 0
    new = {name: share * (1 - traffic.cached) for name, share in traffic.shares.items()}
    encode_s = sum(share * seconds_of(name, traffic, gpu, model) for name, share in new.items())
    # One scan of the cache's vectors serves a batch of 64 queries.
    scan_s = traffic.cache_rows * 1024 * 2 / (gpu.bandwidth * gpu.efficiency) / 64
    return Plan(
        batch,
        step_s,
        1 / per_request_s,
        engine_gpus=traffic.rate * per_request_s if traffic.language_model else 0,
        encoder_gpus=traffic.rate * encode_s,
        retrieval_gpus=traffic.rate * scan_s,
        decode_cores=traffic.rate * sum(share * host.decode_s[name] for name, share in new.items()),
        api_processes=traffic.rate * (1 / host.json_per_s + events / host.events_per_s),
    )


def seconds_of(modality: str, traffic: Traffic, gpu: Gpu, model: Model) -> float:
    """Return the GPU seconds to encode one attachment in a batch."""
    flops, float32 = gpu.flops * gpu.encode_efficiency, gpu.encode_float32
    if modality == "point":
        flops, float32 = gpu.cloud_flops, gpu.cloud_float32
    return model.encode[modality] / (flops * (float32 if traffic.encode_dtype == "float32" else 1))


def cost_per_thousand(made: Plan, traffic: Traffic, gpu_hour: float, core_hour: float) -> float:
    """Return the cost of 1000 requests, in the currency of the prices, for whole GPUs."""
    cores = made.decode_cores + made.api_processes
    return (made.gpus * gpu_hour + cores * core_hour) / HOUR / traffic.rate * 1000


def line(traffic: Traffic, made: Plan, gpu_hour: float, core_hour: float) -> str:
    cells = [
        f"{traffic.rate:g}",
        ", ".join(f"{share:g} {name}" for name, share in traffic.shares.items()) or "text only",
        f"{made.engine_gpus:.2f}",
        f"{made.encoder_gpus:.2f}",
        f"{made.retrieval_gpus:.2f}",
        f"{made.decode_cores:.1f}",
        f"{made.api_processes:.1f}",
        made.bottleneck(),
        f"{cost_per_thousand(made, traffic, gpu_hour, core_hour):.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(traffics: list[Traffic], gpu_hour: float, core_hour: float) -> str:
    head = ["requests/s", "attachments a request", "engine GPUs", "encoder GPUs", "retrieval GPUs"]
    head += ["decode cores", "API processes", "first to run out", "cost of 1000"]
    rows = [line(traffic, plan(traffic), gpu_hour, core_hour) for traffic in traffics]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *rows])


def shares_of(text: str) -> dict[str, float]:
    """Parse "image=0.5,video=0.05"."""
    pairs = (pair.split("=") for pair in text.split(",") if pair)
    shares = {name: float(share) for name, share in pairs}
    if unknown := shares.keys() - set(MODALITIES):
        raise argparse.ArgumentTypeError(
            f"unknown modality: {', '.join(unknown)}; choose from {', '.join(MODALITIES)}"
        )
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, action="append", help="requests/s; repeatable")
    parser.add_argument("--share", type=shares_of, default={"image": 1.0}, help="a request's mix")
    parser.add_argument("--known", type=float, default=0.0, help="share that repeats")
    parser.add_argument("--encode-dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--encoders-alone", action="store_true", help="without a language model")
    parser.add_argument("--answer", type=int, default=128, help="tokens")
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="price")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price")
    options = parser.parse_args()
    traffics = [
        Traffic(
            rate=rate,
            shares=options.share,
            cached=options.known,
            answer=options.answer,
            encode_dtype=options.encode_dtype,
            language_model=not options.encoders_alone,
        )
        for rate in options.rate or [1, 10, 100, 1000, 5000]
    ]
    print(table(traffics, options.gpu_hour, options.core_hour))


if __name__ == "__main__":
    main()
