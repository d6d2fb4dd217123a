import numpy as np
import pytest
import torch

from model_ext.engine.slots import SlotTable


@pytest.fixture
def table() -> SlotTable:
    cpu = torch.device("cpu")
    return SlotTable(layers=2, rows=4, hidden=3, tokens=16, dtype=torch.float32, device=cpu)


class Model:
    """Turns an embedding (n, 3) into two layers' rows, and counts the batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def deltas(self, embeddings: torch.Tensor, adapters: list[int]) -> torch.Tensor:
        assert len(embeddings) == len(adapters)
        self.batches.append(adapters)
        return torch.stack([embeddings, 10 * embeddings])


def embedding(value: float) -> np.ndarray:
    return np.full(3, value, dtype=np.float32)


def test_new_requests_are_computed_in_one_batch(table: SlotTable) -> None:
    model = Model()
    table.stage(3, embedding(1), adapter=7)
    table.stage(0, embedding(2))
    table.flush(model.deltas)
    assert model.batches == [[7, 0]]
    assert table.deltas[:, :, 0].tolist() == [[2, 0, 0, 1], [20, 0, 0, 10]]


def test_nothing_new_computes_nothing(table: SlotTable) -> None:
    model = Model()
    table.flush(model.deltas)
    table.stage(1, None)
    table.flush(model.deltas)
    assert model.batches == []


def test_an_unfit_embedding_leaves_nothing_of_the_slots_former_request(table: SlotTable) -> None:
    table.stage(1, embedding(5))
    table.flush(Model().deltas)
    table.stage(1, None)
    table.flush(Model().deltas)
    assert not table.deltas.any()


def test_the_last_word_on_a_slot_counts(table: SlotTable) -> None:
    table.stage(1, embedding(5))
    table.stage(1, embedding(6))  # finished and replaced before a step ran
    table.flush(Model().deltas)
    assert table.deltas[0, 1].tolist() == [6, 6, 6]


def test_tokens_point_at_their_requests_slots(table: SlotTable) -> None:
    table.point(np.array([2, 0]), np.array([3, 1]))
    assert table.slot_of_token[:4].tolist() == [2, 2, 2, 0]
    table.point(np.array([2, 0]), np.array([1, 3]))  # the same requests, other shares
    assert table.slot_of_token[:4].tolist() == [2, 0, 0, 0]
    table.point(np.array([0, 2]), np.array([1, 3]))  # the same, the other way round
    assert table.slot_of_token[:4].tolist() == [0, 2, 2, 2]


def test_the_buffers_never_move(table: SlotTable) -> None:
    before = table.deltas.data_ptr(), table.slot_of_token.data_ptr()
    table.stage(0, embedding(1))
    table.flush(Model().deltas)
    table.point(np.array([1]), np.array([16]))
    assert (table.deltas.data_ptr(), table.slot_of_token.data_ptr()) == before


def test_an_unchanged_batch_writes_nothing(table: SlotTable) -> None:
    table.point(np.array([1, 2]), np.array([1, 1]))
    table.slot_of_token.fill_(7)
    table.point(np.array([1, 2]), np.array([1, 1]))
    assert table.slot_of_token.tolist() == [7] * 16
