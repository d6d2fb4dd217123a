"""`Arrival` computes the deltas of new requests, and the host does not wait for the device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from model_ext.bind import BindNetwork
from model_ext.config import BindConfig
from model_ext.engine.arrival import CAPTURED_SIZES, MAX_BATCH, Arrival
from model_ext.engine.device import CudaDevice, Device
from model_ext.engine.fold import fold
from model_ext.engine.slots import SlotTable
from model_ext.inject import ValueLayer
from tests.model_ext.engine.devices import DelayedDevice, ValuelessDevice

D, C, HEADS = 6, 32, 4
ROWS = 200


class Doubling:
    """A fake model. It computes deltas of two layers from embeddings, and records LoRA adapters."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def deltas(self, embeddings: torch.Tensor, adapters: list[int]) -> torch.Tensor:
        assert len(embeddings) == len(adapters)
        self.batches.append(adapters)
        return torch.stack([embeddings, 10 * embeddings])


def doubling(device: Device | None = None, rows: int = 4) -> tuple[SlotTable, Doubling, Arrival]:
    device = device or Device(torch.device("cpu"))
    table = SlotTable(layers=2, rows=rows, hidden=3, tokens=16, dtype=torch.float32, device=device)
    model = Doubling()
    return table, model, Arrival(table, model.deltas, embedding_dim=3, device=device)


def embedding(value: float) -> np.ndarray:
    return np.full(3, value, dtype=np.float32)


class TestBatches:
    def test_new_requests_are_computed_in_one_batch(self) -> None:
        table, model, arrival = doubling()
        arrival.stage(3, embedding(1))
        arrival.stage(0, embedding(2))
        arrival.flush()
        assert model.batches == [[0, 0]]
        assert table.deltas[:, :4, 0].tolist() == [[2, 0, 0, 1], [20, 0, 0, 10]]

    def test_requests_with_an_adapter_are_a_separate_batch(self) -> None:
        table, model, arrival = doubling()
        arrival.stage(3, embedding(1), adapter=7)
        arrival.stage(0, embedding(2))
        arrival.stage(1, embedding(3), adapter=8)
        arrival.flush()
        assert model.batches == [[0], [7, 8]]
        assert table.deltas[0, :4, 0].tolist() == [2, 3, 0, 1]

    def test_requests_with_an_adapter_can_be_computed_later(self) -> None:
        table, model, arrival = doubling()
        arrival.stage(3, embedding(1), adapter=7)
        arrival.stage(0, embedding(2))
        arrival.flush(with_adapter=False)
        assert model.batches == [[0]]
        assert table.deltas[0, :4, 0].tolist() == [2, 0, 0, 0]
        arrival.flush()
        assert model.batches == [[0], [7]]
        assert table.deltas[0, :4, 0].tolist() == [2, 0, 0, 1]

    def test_without_new_requests_nothing_is_computed(self) -> None:
        _, model, arrival = doubling()
        arrival.flush()
        arrival.stage(1, None)
        arrival.flush()
        assert model.batches == []

    def test_an_invalid_embedding_clears_the_row_of_the_slots_last_request(self) -> None:
        table, _, arrival = doubling()
        arrival.stage(1, embedding(5))
        arrival.stage(2, embedding(6))
        arrival.flush()
        arrival.stage(1, None)
        arrival.flush()
        assert table.deltas[0, :4, 0].tolist() == [0, 0, 6, 0]

    def test_the_last_request_staged_for_a_slot_counts(self) -> None:
        table, _, arrival = doubling()
        arrival.stage(1, embedding(5))
        # a new request in the same slot, because the first one has ended
        arrival.stage(1, embedding(6))
        arrival.flush()
        assert table.deltas[0, 1].tolist() == [6, 6, 6]

    def test_more_requests_than_a_batch_holds(self) -> None:
        table, model, arrival = doubling(rows=ROWS)
        for slot in range(ROWS):
            arrival.stage(slot, embedding(slot))
        arrival.flush()
        assert [len(batch) for batch in model.batches] == [64, 64, 64, 8]
        assert table.deltas[1, :ROWS, 2].tolist() == [10 * slot for slot in range(ROWS)]


def random_model(device: Device, layers: int) -> tuple[SlotTable, Arrival]:
    """Return a slot table, and an Arrival with a random bind network and random folded matrices."""
    torch.manual_seed(0)
    where = device.torch
    config = BindConfig(in_features=D, hidden_size=C, intermediate_size=48)
    with where:
        bind = BindNetwork(config).requires_grad_(False)
        maps = [
            ValueLayer(
                query=torch.randn(C),
                gate=torch.randn(HEADS),
                v_proj=torch.randn(C, C) / C**0.5,
                o_proj=torch.randn(C, C) / C**0.5,
            )
            for _ in range(layers)
        ]

    def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Module:
        made = nn.Linear(1, 1, device="meta")
        made.weight = nn.Parameter(weight, requires_grad=False)
        made.bias = nn.Parameter(bias, requires_grad=False)
        return made

    folded = fold(maps, linear)
    table = SlotTable(layers, ROWS, C, tokens=512, dtype=torch.float32, device=device)
    arrival = Arrival(table, lambda embeddings, _: folded(bind(embeddings)), D, device)
    return table, arrival


def stage(arrival: Arrival, count: int, seed: int = 1) -> list[int]:
    """Stage `count` random requests. Return their slots."""
    generator = np.random.default_rng(seed)
    slots: list[int] = generator.permutation(ROWS)[:count].tolist()
    for slot in slots:
        arrival.stage(slot, generator.standard_normal(D).astype(np.float32))
    return slots


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33, 63, 64, 65, 150, ROWS])
def test_padded_batches_equal_unpadded_ones(count: int) -> None:
    device = Device(torch.device("cpu"))
    plain, without_graphs = random_model(device, layers=4)
    padded, with_graphs = random_model(device, layers=4)
    with_graphs.capture()
    slots = stage(without_graphs, count)
    stage(with_graphs, count)
    without_graphs.flush()
    with_graphs.flush()
    expected = plain.deltas[:, slots]
    assert expected.abs().min() > 0
    error = (padded.deltas[:, slots] - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert error.max() < 1e-5
    others = sorted(set(range(ROWS)) - set(slots))
    assert not padded.deltas[:, others].any()  # padding must change no other row


def test_sizes_of_captured_batches() -> None:
    sizes = []

    class Sizes(Device):
        def capture(self, compute: Any) -> Any:
            compute()
            return lambda: sizes.append(compute.args[0])

    _, _, arrival = doubling(Sizes(torch.device("cpu")), rows=ROWS)
    arrival.capture()
    for count in (1, 2, 3, 4, 5, 9, 17, 33, 64, 65):
        for slot in range(count):
            arrival.stage(slot, embedding(slot))
        arrival.flush()
    assert sizes == [1, 2, 4, 4, 8, 16, 32, 64, 64, 64, 1]
    assert max(CAPTURED_SIZES) == MAX_BATCH


class Operations(TorchDispatchMode):
    """Records every PyTorch operation that the host calls, and checks copies."""

    def __init__(self, device: ValuelessDevice) -> None:
        super().__init__()
        self.pinned = {buffer.untyped_storage().data_ptr() for buffer in device.host_buffers}
        self.names: list[str] = []
        self.copies = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        devices = {each.device.type for each in args if isinstance(each, torch.Tensor)}
        if len(devices) > 1:  # whether the operation copies between host and device
            assert function is torch.ops.aten.copy_.default
            target, source = args[:2]
            assert target.device.type == "meta"
            assert kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
            assert source.untyped_storage().data_ptr() in self.pinned
            self.copies += 1
        self.names.append(str(function))
        return function(*args, **kwargs)


def operations_of_an_arrival(layers: int, count: int, *, graphs: bool) -> tuple[list[str], int]:
    """Run a step from staging to the forward pass. Return its operations and graph launches."""
    device = ValuelessDevice()
    table, arrival = random_model(device, layers)
    if graphs:
        arrival.capture()
    slots = stage(arrival, count)
    with Operations(device) as operations, torch.inference_mode():
        arrival.flush()
        table.point(np.array(slots), np.full(count, 2))
    assert operations.copies == 2
    return operations.names, device.launches


@pytest.mark.parametrize("count", [1, 7, 64])
@pytest.mark.parametrize("graphs", [True, False])
def test_an_arrival_never_waits_for_the_device(count: int, graphs: bool) -> None:
    """The host reads no tensor of the device, and copies asynchronously from pinned memory."""
    _, launches = operations_of_an_arrival(4, count, graphs=graphs)
    assert launches == int(graphs)


@pytest.mark.parametrize("count", [1, 7, 64])
def test_an_arrival_is_a_handful_of_launches(count: int) -> None:
    few, launches = operations_of_an_arrival(4, count, graphs=True)
    many, _ = operations_of_an_arrival(32, count, graphs=True)
    assert few == many
    assert len(few) + launches <= 12


def test_without_graphs_the_number_of_layers_does_not_matter_either() -> None:
    few, _ = operations_of_an_arrival(4, 7, graphs=False)
    many, _ = operations_of_an_arrival(32, 7, graphs=False)
    assert few == many


def test_the_device_double_raises_when_it_is_read() -> None:
    table, _ = random_model(ValuelessDevice(), layers=1)
    with pytest.raises(RuntimeError):
        table.deltas[0, 0, 0].item()
    with pytest.raises(NotImplementedError):
        table.deltas.cpu()


@contextmanager
def delayed_copies(device: DelayedDevice) -> Iterator[None]:
    """Inside this context, each copy of a tensor becomes a pending operation of the busy device."""

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function is torch.ops.aten.copy_.default:
                device.pending.append(lambda: function(*args, **(kwargs or {})))
                return args[0]
            return function(*args, **(kwargs or {}))

    with Copies():
        yield


def test_a_staging_buffer_is_not_rewritten_before_its_copy() -> None:
    """The host stages two batches of requests while the device is busy with an earlier step."""
    device = DelayedDevice()
    table, _, arrival = doubling(device)
    arrival.capture()
    with delayed_copies(device):
        arrival.stage(0, embedding(1))
        arrival.flush()
        table.point(np.array([0]), np.array([2]))
        arrival.stage(1, embedding(2))
        arrival.flush()
        table.point(np.array([0, 1]), np.array([1, 2]))
    assert not table.deltas.any()
    assert device.waits == 0
    device.run(4)  # the four operations of the first step: copy, event, graph, slots of tokens
    assert table.deltas[0, :2, 0].tolist() == [1, 0]
    assert table.slot_of_token[:3].tolist() == [0, 0, 0]
    device.run()
    assert table.deltas[0, :2, 0].tolist() == [1, 2]
    assert table.slot_of_token[:3].tolist() == [0, 1, 1]


def test_when_all_staging_buffers_are_pending_the_host_waits_for_the_oldest() -> None:
    device = DelayedDevice()
    table, _, arrival = doubling(device)  # this `Arrival` has two buffers in host memory
    arrival.capture()
    with delayed_copies(device):
        for slot in range(4):
            arrival.stage(slot, embedding(slot + 1))
            arrival.flush()
    assert device.waits == 2
    device.run()
    assert table.deltas[0, :4, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("count", [1, 7, 64, ROWS])
def test_on_a_gpu(count: int) -> None:
    """CUDA graphs give the same rows as a CPU, and the host does not synchronise with the GPU."""
    table, arrival = random_model(CudaDevice(torch.device("cuda")), layers=4)
    expected, on_cpu = random_model(Device(torch.device("cpu")), layers=4)
    arrival.capture()
    for seed in range(3):
        slots = stage(arrival, count, seed)
        stage(on_cpu, count, seed)
        torch.cuda.set_sync_debug_mode("error")
        try:
            arrival.flush()
            table.point(np.array(slots), np.full(count, 2))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        on_cpu.flush()
        got = table.deltas[:, slots].cpu()
        assert table.slot_of_token[: 2 * count : 2].tolist() == slots
        torch.testing.assert_close(got, expected.deltas[:, slots], atol=1e-3, rtol=1e-3)
