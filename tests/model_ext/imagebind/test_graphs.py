"""`Graphs` with a fake capture of CUDA graphs: padding, sizes, and results after later replays."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model_ext.imagebind.graphs import SIZES, Graphs
from model_ext.imagebind.model import ImageBind
from tests.model_ext.imagebind.test_model import example

MAX_TOKENS = 1100  # a batch holds 4 images or 1 sound, but no video


class Recorder:
    """A fake capture. As on a GPU, a replay runs the function again and overwrites its result."""

    def __init__(self) -> None:
        self.replays: list[int] = []  # the batch size of each replay

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = compute()

        def replay() -> None:
            self.replays.append(len(result))
            result.copy_(compute())

        return replay, result


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def graphs(tiny: ImageBind, recorder: Recorder) -> Graphs:
    graphs = Graphs(tiny, recorder)
    graphs.warm_up(MAX_TOKENS)
    return graphs


@pytest.mark.parametrize(
    "modality", ["vision", "text", "audio", "depth", "thermal", "imu", "point"]
)
@torch.inference_mode()
def test_padded_batches_equal_unpadded_ones(
    modality: str, tiny: ImageBind, graphs: Graphs, recorder: Recorder
) -> None:
    for count in (3, 1):
        inputs = example(modality, count, tiny.config)
        recorder.replays.clear()
        torch.testing.assert_close(
            graphs.unit(modality, inputs), tiny.unit(modality, inputs), rtol=1e-5, atol=1e-6
        )
        assert all(size in SIZES for size in recorder.replays)


@torch.inference_mode()
def test_a_batch_runs_in_the_next_size(graphs: Graphs, recorder: Recorder) -> None:
    recorder.replays.clear()
    for count in (1, 3, 4, 5):
        graphs.unit("vision", torch.zeros(count, 3, 224, 224))
    assert recorder.replays == [1, 3, 4], "five images are more than the largest graph"


@torch.inference_mode()
def test_clouds_of_any_number_of_points_use_the_graph(graphs: Graphs, recorder: Recorder) -> None:
    recorder.replays.clear()
    for points in (70, 300):
        graphs.unit("point", torch.rand(1, points, 3))
    assert recorder.replays == [1, 1]


@torch.inference_mode()
def test_a_result_outlives_the_next_replay(graphs: Graphs) -> None:
    first = graphs.unit("vision", torch.zeros(1, 3, 224, 224))
    kept = first.clone()
    graphs.unit("vision", torch.rand(1, 3, 224, 224))
    assert torch.equal(first, kept)


@torch.inference_mode()
def test_without_graphs_the_model_runs_directly(tiny: ImageBind) -> None:
    recorder = Recorder()
    graphs = Graphs(tiny, recorder)
    graphs.warm_up(MAX_TOKENS, max_graph_tokens=0)
    inputs = torch.zeros(1, 3, 224, 224)
    assert torch.equal(graphs.unit("vision", inputs), tiny.unit("vision", inputs))
    assert recorder.replays == []
