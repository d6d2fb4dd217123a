"""Choose the share of the GPU's memory that vLLM's engine gets.

Encoders, retrieval caches and other processes may use the same GPU. vLLM measures free memory only
when its engine starts. Before that, this module collects the memory that each process needs,
divides the GPU's memory (`server/engine/memory_budget.py`), logs a table of the sizes and sets
vLLM's `gpu_memory_utilization`. On a machine without a GPU it does nothing.
"""

import hashlib
import json
import logging
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import torch

from cache_index.device import Placement, planned_gpu_bytes
from cache_index.manifest import read_manifest
from model_ext.config import BindServeConfig
from server.api.components import Encoders
from server.conditioning.open_cache import cache_source
from server.encoding.client import EncodingClient
from server.encoding.messages import SOCKET
from server.engine.card import read_card
from server.engine.flags import UsageError
from server.engine.memory_budget import CUDA_CONTEXT, Budget, Card, DoesNotFit, Share, plan
from server.engine.model_memory import engine_needs
from server.settings import Settings
from server.side.catalog import enabled, socket_path
from server.side.client import SideClient

logger = logging.getLogger(__name__)

# File with the encoders' measured memory, in the user's home folder.
MEASURED = Path(".cache/bindserve/encoder-memory.json")


def check_early(args: Namespace) -> None:
    """Reject a configuration that cannot fit on the GPU, before the encoders are loaded.

    This check needs the encoders' memory, which an earlier start with the same model, GPU and
    settings has measured. Without that measurement, it does nothing.

    Raises UsageError: when the configuration cannot fit.
    """
    card = read_card()
    if card is not None:
        encoders = Measurements.read().get(measurement_key(args.bindserve, card), 0)
        budget(replace(card, free=card.total), args, encoders, loaded=True)


async def fit_to_card(args: Namespace, encoders: Encoders | None) -> None:
    """Set `args.gpu_memory_utilization` for a server with one API process.

    The retrieval cache must be open. `encoders`: the encoders on the same machine; None if they run
    elsewhere.

    Raises UsageError: when the configuration cannot fit.
    """
    if read_card() is None:
        return
    hello = (await encoders.hello())[0] if encoders is not None else None
    args.bindserve_side_bytes = await side_bytes(args)
    set_utilization(args, hello.gpu_bytes if hello is not None else 0, loaded=True)


async def fit_many(args: Namespace) -> None:
    """Do the same as `fit_to_card` for several API processes, which open their retrieval caches
    later.
    """
    if read_card() is None:
        return
    client = EncodingClient(args.bindserve_scratch / SOCKET)
    try:
        hello, _ = await client.hello()
    finally:
        await client.close()
    args.bindserve_side_bytes = await side_bytes(args)
    size = set_utilization(args, hello.gpu_bytes, loaded=False)
    # Set the limit here. By default, each process limits its index to half of the free memory,
    # which is too little for the process that opens its index last.
    if size:
        args.bindserve = args.bindserve.model_copy(update={"cache_gpu_bytes": size})


async def side_bytes(args: Namespace) -> int:
    """Wait until the side models are loaded. Returns the GPU memory that they use."""
    size = 0
    for side in enabled(args.bindserve):
        client = SideClient(side.name, socket_path(args.bindserve_scratch, side.name))
        try:
            gpu_bytes = (await client.state()).gpu_bytes
        finally:
            await client.close()
        size += gpu_bytes + CUDA_CONTEXT if gpu_bytes else 0
    return size


def set_utilization(args: Namespace, encoder_bytes: int, *, loaded: bool) -> int:
    """Divide the memory, log the sizes, and store the encoders' measured memory.

    Returns the size of one retrieval cache in bytes.
    """
    card = read_card()
    assert card is not None
    if encoder_bytes:
        Measurements.read().store(measurement_key(args.bindserve, card), encoder_bytes)
    planned = budget(card, args, encoder_bytes, loaded=loaded)
    logger.info("%s", planned)
    args.gpu_memory_utilization = planned.utilization
    return cache_bytes(args.bindserve, card.total)


def budget(card: Card, args: Namespace, encoder_bytes: int, *, loaded: bool) -> Budget:
    """Divide the memory of the GPU `card`.

    `loaded`: whether the memory in use already includes the retrieval cache.

    Raises UsageError: when the configuration cannot fit.
    """
    settings: Settings = args.bindserve
    encoders = encoder_share(settings, args, encoder_bytes)
    cache = cache_share(cache_bytes(settings, card.total), args.api_server_count)
    sides = side_share(getattr(args, "bindserve_side_bytes", 0))
    present = encoders.size + sides.size + (cache.size if loaded else 0)
    others = Share("other processes", max(0, card.total - card.free - present))
    try:
        needs = engine_needs(settings.model, args, card.total)
        return plan(
            card,
            needs,
            (encoders, *((sides,) if sides.size else ()), cache, others),
            args.bindserve_utilization,
        )
    except DoesNotFit as error:
        raise UsageError(str(error)) from None
    except (ValueError, KeyError) as error:
        raise UsageError(f"{settings.model}: {error}") from None


def encoder_share(settings: Settings, args: Namespace, size: int) -> Share:
    """Return the memory that the encoders need on the engine's GPU. Zero if they run on another
    device.
    """
    device = torch.device("cuda" if settings.encode_device == "auto" else settings.encode_device)
    cards = args.tensor_parallel_size * args.pipeline_parallel_size
    if size == 0 or device.type != "cuda" or (device.index or 0) >= cards:
        return Share("encoders", 0)
    return Share("encoders", size + CUDA_CONTEXT, "set encode_device to cpu (slower)")


def side_share(size: int) -> Share:
    return Share("side models", size, "set the devices of the side models to cpu")


def cache_share(size: int, processes: int) -> Share:
    """Return the memory of all retrieval caches. Each API process has its own copy of the cache's
    index.
    """
    if size == 0:
        return Share("retrieval cache", 0)
    name = "retrieval cache" if processes == 1 else f"retrieval caches of {processes} API processes"
    remedy = "set cache_device to cpu, or run `bindserve cache serve` elsewhere"
    return Share(name, processes * (size + CUDA_CONTEXT), remedy)


def cache_bytes(settings: Settings, free: int) -> int:
    """Return the GPU memory of the cache's index in one API process.

    Zero if a retrieval service or the CPU searches the cache.
    """
    if settings.cache_device == "cpu":
        return 0
    document = json.loads((settings.model / "config.json").read_bytes())
    source = cache_source(settings, BindServeConfig.from_hf(document))
    if not isinstance(source, Path):
        return 0
    placement = Placement(settings.cache_device, settings.cache_gpu_bytes)
    return planned_gpu_bytes(read_manifest(source), placement, free)


def measurement_key(settings: Settings, card: Card) -> str:
    """Hash all settings that determine the encoders' memory."""
    parts = (
        *(card.name, card.total, torch.__version__, settings.encode_device),
        *(settings.encode_dtype, settings.encode_batch, settings.encode_graphs),
        (settings.model / "encoders" / "config.json").read_text(),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Measurements(dict[str, int]):
    """The encoders' measured GPU memory by `measurement_key`, in a file in the user's
    cache folder.
    """

    @classmethod
    def read(cls) -> "Measurements":
        """Read the file. Returns no measurements if it is missing or damaged."""
        try:
            document = json.loads((Path.home() / MEASURED).read_bytes())
            return cls({str(key): int(size) for key, size in document.items()})
        except (OSError, ValueError, TypeError, AttributeError, RuntimeError):
            return cls()

    def store(self, key: str, size: int) -> None:
        """Store a measurement. Logs a warning if the folder cannot be written, because only the
        early check needs the file.
        """
        if self.get(key) == size:
            return
        self[key] = size
        try:
            path = Path.home() / MEASURED
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".new")
            draft.write_text(json.dumps(self, indent=2))
            draft.replace(path)
        except (OSError, RuntimeError) as error:
            logger.warning("cannot store the encoders' memory: %s", error)
