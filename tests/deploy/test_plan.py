"""deploy.plan's results equal a calculation by hand, and docs/scaling.md shows its output."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from deploy import plan as subject
from deploy.plan import Traffic, cost_per_thousand, plan

DTYPES = ("bfloat16", "float32")
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_one_gpu_by_hand() -> None:
    """Each engine step reads the weights and the KV cache of the requests that fit into memory."""
    made = plan(Traffic(rate=100, shares={}))
    held = 188 * 524_288 + 262_144
    assert made.batch == int((72e9 - 13.5e9) / held) == 591
    read = 13.5e9 + 591 * 124 * 524_288
    assert made.step_s == pytest.approx(read / 3.35e12 / 0.6)
    prefill = (2 * 6.74e9 * 60 + 2.29e9) / (989e12 * 0.6)
    assert 1 / made.requests_per_gpu == pytest.approx(128 * made.step_s / 591 + prefill)
    assert made.engine_gpus == pytest.approx(100 / made.requests_per_gpu)


def test_attachments_cost_decoding_and_encoding() -> None:
    made = plan(Traffic(rate=100, shares={"image": 0.5, "video": 0.1}))
    assert made.decode_cores == pytest.approx(100 * (0.5 * 0.02 + 0.1 * 0.055))
    assert made.encoder_gpus == pytest.approx(
        100 * (0.5 * 0.33e12 + 0.1 * 4.95e12) / (0.48 * 989e12)
    )
    cached = plan(Traffic(rate=100, shares={"image": 0.5, "video": 0.1}, cached=0.5))
    assert cached.encoder_gpus == pytest.approx(made.encoder_gpus / 2)


def test_encoders_in_float32_and_clouds() -> None:
    """In float32, encoding takes 12 times as long for images, and 4 times for point clouds."""
    images = {
        dtype: plan(Traffic(rate=1, shares={"image": 1}, encode_dtype=dtype)) for dtype in DTYPES
    }
    ratio = images["float32"].encoder_gpus / images["bfloat16"].encoder_gpus
    assert ratio == pytest.approx(12)
    for dtype, slowdown in zip(DTYPES, (1, 4), strict=True):
        clouds = plan(Traffic(rate=100, shares={"point": 1}, encode_dtype=dtype))
        assert clouds.encoder_gpus == pytest.approx(100 * 0.036e12 * slowdown / 123e12)


def test_idle_gpus_cost_the_same() -> None:
    few, many = (Traffic(rate=rate, shares={}) for rate in (1, 100))
    ratio = cost_per_thousand(plan(few), few, 3, 0) / cost_per_thousand(plan(many), many, 3, 0)
    assert ratio == pytest.approx(100)
    assert cost_per_thousand(plan(many), many, 3.6, 0) == pytest.approx(3.6 / 3600 / 100 * 1000)


def test_encoders_alone_need_no_engine_and_send_no_events() -> None:
    alone = plan(Traffic(rate=100, shares={"image": 1}, language_model=False))
    whole = plan(Traffic(rate=100, shares={"image": 1}))
    assert alone.engine_gpus == 0
    assert alone.api_processes == pytest.approx(100 / 790)
    assert alone.encoder_gpus == whole.encoder_gpus
    assert alone.bottleneck() == "decoding"


def test_the_page_shows_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.findall(r"<!-- python -m (deploy\.plan.*?) -->\n(.*?)\n\n", PAGE.read_text(), re.S)
    assert len(shown) == 4
    for command, table in shown:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        subject.main()
        assert capsys.readouterr().out.strip() == table
