import numpy as np
import pytest

from model_ext.eval.bootstrap import SAMPLES, Estimate, bootstrap
from model_ext.eval.metrics import percent


def test_the_interval_is_that_of_a_binomial_share() -> None:
    rows = np.repeat([[1.0], [0.0]], [300, 700], axis=0)
    estimate = bootstrap(rows, percent, "a")
    low, high = estimate.interval
    assert estimate.value == 30
    assert len(estimate.samples) == SAMPLES
    error = 100 * np.sqrt(0.3 * 0.7 / 1000)  # the standard error in percent
    assert low == pytest.approx(30 - 1.96 * error, abs=0.6)
    assert high == pytest.approx(30 + 1.96 * error, abs=0.6)


def test_the_same_name_gives_the_same_interval_and_others_are_independent() -> None:
    rows = np.arange(50.0)[:, None]
    first, again, other = (bootstrap(rows, percent, name) for name in "aab")
    assert (first.samples == again.samples).all()
    assert abs(np.corrcoef(first.samples, other.samples)[0, 1]) < 0.2


def test_equal_items_have_no_spread() -> None:
    assert bootstrap(np.ones((7, 1)), percent, "a").interval == (100, 100)


def test_a_sum_adds_the_resamples() -> None:
    rows = np.arange(10.0)[:, None]
    parts = [bootstrap(rows, percent, name) for name in "ab"]
    total = Estimate.total(parts)
    assert total.value == 900
    assert total.items == 20
    assert total.samples == pytest.approx(parts[0].samples + parts[1].samples)


def test_rejects_no_rows() -> None:
    with pytest.raises(ValueError, match="SVT: there is no item"):
        bootstrap(np.empty((0, 1)), percent, "SVT")
