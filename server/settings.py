"""Settings: the operator's choices, read once at start-up and frozen.

Precedence: flag, BINDSERVE_* environment variable, --config YAML, default. On an unknown key or a
bad value, the program exits with an error that names the key. `vllm_args` passes vLLM's flags on.
"""

import os
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from model_ext.imagebind.config import ENCODER_OF, DtypeSetting
from model_ext.imagebind.preprocess.limits import Limits

Count = Annotated[int, Field(gt=0)]
MiB = 1 << 20

# Fields of vLLM's protocol that change the engine's behaviour or run a client's template.
EngineField = Literal[
    "vllm_xargs",
    "kv_transfer_params",
    "ec_transfer_params",
    "mm_processor_kwargs",
    "media_io_kwargs",
    "chat_template",
    "prompt_embeds",
]


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BINDSERVE_", frozen=True, extra="forbid")

    model: Path  # a folder that `bindserve convert` or `bindserve train export` wrote
    config: Path | None = None  # YAML with any of these keys

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    served_model_name: str | None = None  # default: the folder's name
    vllm_args: Annotated[tuple[str, ...], NoDecode] = ()  # flags of `vllm serve`

    request_log: bool = False  # print one line of JSON per request instead of uvicorn's line

    cache: str | None = None  # a folder, URLs of services, or "none"; default: the model's own
    cache_policy: Literal["off", "refuse"] = "refuse"  # if it fails: answer without it, or 503
    cache_token_file: Path | None = None  # the bearer token of the retrieval services
    cache_device: Literal["auto", "cpu", "cuda"] = "auto"  # of a folder; "auto": a GPU if present
    # GPU memory of its vectors, in each API process. Default: half of the free memory. The engine
    # gets what the caches and the encoders leave, if --gpu-memory-utilization is not given.
    cache_gpu_bytes: Count | None = None
    cache_timeout_s: float = Field(2, gt=0)  # for one request to a service, with its retries

    api_key_file: Path | None = None  # one key a line; all paths but the health checks need a key
    no_auth: bool = False  # allow a host that other machines can reach without API keys
    key_requests_per_minute: int = Field(0, ge=0)  # of one API key, in each process; 0: no limit
    key_concurrent: int = Field(0, ge=0)  # concurrent requests of one API key; 0: no limit
    allow_fields: Annotated[tuple[EngineField, ...], NoDecode] = ()  # fields that clients may set

    allow_media_urls: bool = False  # fetch http(s) URLs that clients send, from public addresses
    fetch_timeout_s: float = Field(10, gt=0)  # for one URL, with its redirects
    fetch_waiting: Count = 64  # concurrent fetches; 503 beyond

    # Concurrent requests in one process, 503 beyond; 0: no bound. The default is four times vLLM's
    # default number of running sequences, so that vLLM's queue fills up before this limit.
    max_requests: int = Field(1024, ge=0)
    max_body_bytes: Count = 64 * MiB  # of one request body in memory
    max_held_bytes: Count = 1024 * MiB  # of all request bodies in memory; 503 beyond
    max_upload_bytes: Count = 512 * MiB  # of a multipart request, which is written to disk
    max_uploads: Count = 32  # concurrent multipart requests; 503 beyond
    upload_folder: Path | None = None  # holds uploads; default: the system's temporary folder
    owner_files: Count = 1000  # files of one API key in /v1/files
    owner_bytes: Count = 2048 * MiB  # of these files
    stored_bytes: Count = 16384 * MiB  # of the files of all API keys
    file_age_s: Count = 30 * 24 * 3600  # upper bound and default of a file's lifetime
    max_attachments: Count = 16  # in one request
    max_n: Count = 16  # choices of one request
    max_tokens: Count = 8192  # of one choice
    max_cache_top_k: Count = 1000  # neighbors that one request may use
    max_embedding_inputs: Count = 256  # in one request
    limits: Limits = Limits()  # sizes of each modality's files

    decode_workers: Count = min(4, os.cpu_count() or 1)  # processes
    decode_timeout_s: float = Field(30, gt=0)  # CPU time of one file; elapsed time: 4 times that
    decode_memory_bytes: Count = 2048 * MiB  # of one process
    decode_waiting: Count = 256  # files that may wait for a process

    encode_device: str = "auto"  # "auto": the GPU if there is one
    encode_load_format: Literal["auto", "dummy"] = "auto"  # dummy: random weights, to measure speed
    encode_threads: Count = max(1, (os.cpu_count() or 1) // 2)
    # Of the weights and activations. auto: bfloat16 on a GPU that supports it, float32 on a CPU.
    encode_dtype: DtypeSetting = "auto"
    encode_graphs: bool = True  # on a GPU: batches run as CUDA graphs
    # Images in a batch; other files count by their tokens (257 an image). Larger batches need more
    # GPU memory, which the engine does not get.
    encode_batch: Count = 32
    encode_waiting: Count = 256  # tensors that may wait for the encoders
    embedding_cache_bytes: int = Field(256 * MiB, ge=0)  # embeddings kept by content

    @field_validator("vllm_args", "allow_fields", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Split the environment's string as a shell does."""
        return shlex.split(value) if isinstance(value, str) else value

    @field_validator("limits", mode="before")
    @classmethod
    def _check_limit_names(cls, value: Any) -> Any:
        if isinstance(value, dict):
            unknown = value.keys() - {field.name for field in fields(Limits)}
            if unknown:
                raise ValueError(f"unknown key: {', '.join(sorted(map(str, unknown)))}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = init_settings().get("config") or env_settings().get("config")
        if file is None:
            return init_settings, env_settings
        if not Path(file).is_file():
            raise FileNotFoundError(f"--config {file}: no such file")
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, file)

    @classmethod
    def load(cls, **flags: Any) -> Self:
        """Load all sources. A flag that is None has no effect.

        Raises ValidationError for a bad value, FileNotFoundError for a missing --config file.
        """
        return cls(**{name: value for name, value in flags.items() if value is not None})

    @property
    def max_file_bytes(self) -> int:
        """The largest attachment of any modality."""
        return max(self.limits.bytes_of(modality) for modality in ENCODER_OF)

    @property
    def name(self) -> str:
        """The model's name in requests."""
        return self.served_model_name or self.model.resolve().name
