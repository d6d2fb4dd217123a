import pytest

from model_ext.eval.tasks.draw import draw


def test_first_draws_of_the_public_code() -> None:
    assert draw(26308, 4000)[:3] == [2930, 13347, 5211]
    assert draw(31783, 1000)[:3] == [6896, 23395, 23891]


def test_draws_each_item_at_most_once() -> None:
    assert sorted(draw(10, 10)) == list(range(10))
    with pytest.raises(ValueError, match="cannot draw 11 of 10 items"):
        draw(10, 11)
