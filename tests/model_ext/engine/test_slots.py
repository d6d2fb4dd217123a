import numpy as np
import pytest
import torch

from model_ext.engine.device import Device
from model_ext.engine.slots import SlotTable


@pytest.fixture
def table() -> SlotTable:
    device = Device(torch.device("cpu"))
    return SlotTable(layers=2, rows=4, hidden=3, tokens=16, dtype=torch.float32, device=device)


def test_tokens_point_at_their_requests_slots(table: SlotTable) -> None:
    table.point(np.array([2, 0]), np.array([3, 1]))
    assert table.slot_of_token[:4].tolist() == [2, 2, 2, 0]
    table.point(np.array([2, 0]), np.array([1, 3]))  # only the numbers of tokens change
    assert table.slot_of_token[:4].tolist() == [2, 0, 0, 0]
    table.point(np.array([0, 2]), np.array([1, 3]))  # only the order of the requests changes
    assert table.slot_of_token[:4].tolist() == [0, 2, 2, 2]


def test_the_spare_row_belongs_to_no_slot(table: SlotTable) -> None:
    assert table.deltas.shape == (2, 5, 3)
    assert table.spare_row == 4
    assert [tuple(layer.shape) for layer in table.layers] == [(5, 3)] * 2


def test_the_buffers_never_move(table: SlotTable) -> None:
    before = table.deltas.data_ptr(), table.slot_of_token.data_ptr()
    for slot in range(9):
        table.point(np.array([slot % 4]), np.array([16]))
        assert table.slot_of_token.tolist() == [slot % 4] * 16
    assert (table.deltas.data_ptr(), table.slot_of_token.data_ptr()) == before


def test_an_unchanged_batch_writes_nothing(table: SlotTable) -> None:
    table.point(np.array([1, 2]), np.array([1, 1]))
    table.slot_of_token.fill_(7)
    table.point(np.array([1, 2]), np.array([1, 1]))
    assert table.slot_of_token.tolist() == [7] * 16
