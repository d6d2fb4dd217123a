"""CUDA graphs for encoder batches whose time is mostly kernel launches.

An encoder launches 10 kernels per block. For one image, launching the kernels takes 9 ms and
running them takes 2 ms. A graph replays all of them with one launch. A graph has a fixed batch
size, so smaller batches are padded to the next captured size, and the largest batches run without a
graph. Kernels and results are the same as without graphs. Tests replace `capture_on_gpu`, the only
function that needs CUDA. Shapes: B samples, D embedding.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model_ext.imagebind.config import KERNEL_POINTS, ImageBindConfig
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.work import max_samples, sample_shapes

logger = logging.getLogger(__name__)

# Captured batch sizes. Padding to the next size adds at most half of a batch.
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

Compute = Callable[[], Tensor]
# A function that captures a `Compute`. Returns a function that replays it, and the tensor with the
# result of each replay.
Capture = Callable[[Compute], tuple[Callable[[], None], Tensor]]


@dataclass(frozen=True, slots=True)
class Graph:
    """A CUDA graph of an encoder for one batch size."""

    inputs: tuple[Tensor, ...]  # memory that the graph reads; the first axis is the batch axis
    replay: Callable[[], None]
    # embeddings and their lengths (size, D + 1); the replay of any graph overwrites this memory
    result: Tensor

    def run(self, prepared: tuple[Tensor, ...]) -> Tensor:
        """Encode B samples, at most `size`.

        Returns (B, D + 1). Rows that the batch does not fill contain data of earlier batches.
        """
        count = len(prepared[0])
        for target, source in zip(self.inputs, prepared, strict=True):
            target[:count].copy_(source)
        self.replay()
        return self.result[:count].clone()


class Graphs:
    """An `ImageBind` that runs batches of captured shapes as graphs, and other batches directly."""

    def __init__(self, model: ImageBind, capture: Capture) -> None:
        self._model = model
        self._capture = capture
        self._graphs: dict[Key, list[Graph]] = {}  # shape of a sample -> graphs, smallest first

    @property
    def config(self) -> ImageBindConfig:
        return self._model.config

    def unit(self, modality: str, inputs: Tensor) -> Tensor:
        """Same as `ImageBind.unit`: inputs with batch axis -> unit embeddings (B, D), float32."""
        return self.unit_and_length(modality, inputs)[:, :-1]

    def unit_and_length(self, modality: str, inputs: Tensor) -> Tensor:
        """Same as `ImageBind.unit_and_length`: inputs with batch axis -> (B, D + 1), float32."""
        prepared = self._model.prepare(modality, inputs)
        for graph in self._graphs.get(_key(modality, prepared), ()):
            if len(inputs) <= len(graph.result):
                return graph.run(prepared)
        return self._model.unit_and_length_of(modality, prepared)

    @torch.inference_mode()
    def warm_up(self, max_tokens: int, *, max_graph_tokens: int | None = None) -> None:
        """Run the largest batch (`max_tokens`) of each modality, then capture the graphs.

        Afterwards, no batch allocates more memory or compiles a kernel. `max_graph_tokens`: the
        number of tokens up to which batches have a graph. 0: no graphs. None: all batches have
        graphs.
        """
        start = time.perf_counter()
        device = next(self._model.parameters()).device
        if self.config.point:
            for points in KERNEL_POINTS:  # compiles the kernels
                self._model.prepare("point", torch.ones(1, points, 3, device=device))
        for modality, shape in sample_shapes(self.config):
            count = max_samples(self.config, modality, shape, max_tokens)
            dtype = torch.int64 if modality == "text" else torch.float32
            inputs = torch.ones(count, *shape, dtype=dtype, device=device)
            self._model.unit(modality, inputs)
            limit = max_tokens if max_graph_tokens is None else max_graph_tokens
            if limit:
                count = min(count, max_samples(self.config, modality, shape, limit))
                self._capture_sizes(modality, self._model.prepare(modality, inputs[:count]))
        logger.info(
            "encoders: %d CUDA graphs, warm-up took %.1f s",
            sum(map(len, self._graphs.values())),
            time.perf_counter() - start,
        )

    def _capture_sizes(self, modality: str, prepared: tuple[Tensor, ...]) -> None:
        """Capture graphs for batch sizes up to that of `prepared`. All graphs read their inputs
        from the same buffers.
        """
        count = len(prepared[0])
        buffers = tuple(torch.zeros_like(tensor) for tensor in prepared)
        graphs = []
        for size in sorted({*(size for size in SIZES if size < count), count}):
            inputs = tuple(buffer[:size] for buffer in buffers)

            def compute(inputs: tuple[Tensor, ...] = inputs) -> Tensor:
                return self._model.unit_and_length_of(modality, inputs)

            graphs.append(Graph(inputs, *self._capture(compute)))
        self._graphs[_key(modality, prepared)] = graphs


Key = tuple[str, tuple[torch.Size, ...]]


def _key(modality: str, prepared: tuple[Tensor, ...]) -> Key:
    return modality, tuple(tensor.shape[1:] for tensor in prepared)


def capture_on_gpu(device: torch.device | str) -> Capture:
    """Capture into CUDA graphs that share one memory pool.

    This is safe, because all replays run in one stream, and `Graph.run` copies each result before
    the next replay.
    """
    pool = torch.cuda.graph_pool_handle()
    stream = torch.cuda.Stream(device)

    def capture(compute: Compute) -> tuple[Callable[[], None], Tensor]:
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            compute()  # not captured: this run creates handles and workspaces
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            result = compute()
        return graph.replay, result

    return capture
