"""The order of training examples: each example occurs once per epoch, in one process only."""

import pytest

from model_ext.train.data.order import epoch_indices


@pytest.mark.parametrize(("world", "split"), [(1, 1), (2, 1), (1, 5), (3, 4)])
def test_a_pass_sees_every_example_once(world: int, split: int) -> None:
    count = world * split * 7
    numbers = [
        number
        for epoch in range(split)
        for rank in range(world)
        for number in epoch_indices(count, epoch, split, rank, world, seed=3)
    ]
    assert sorted(numbers) == list(range(count))


def test_passes_differ_and_are_repeatable() -> None:
    passes = [epoch_indices(50, epoch, 1, 0, 1, seed=0) for epoch in range(3)]
    assert len({tuple(order) for order in passes}) == 3
    assert passes[1] == epoch_indices(50, 1, 1, 0, 1, seed=0)
    assert passes[1] != epoch_indices(50, 1, 1, 0, 1, seed=9)


def test_processes_get_equally_many() -> None:
    shares = [epoch_indices(23, 1, 2, rank, 3, seed=0) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]


def test_a_subepoch_follows_the_released_stride() -> None:
    """The indices of a process in a subepoch equal those of the released code."""
    whole = epoch_indices(24, 0, 1, 0, 1, seed=5)  # a single process gets all indices
    assert epoch_indices(24, 2, 4, 1, 2, seed=5) == whole[1 * 4 + 2 :: 8]
