from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes, ReadOptions
from model_ext.imagebind.preprocess.points import read_points
from model_ext.imagebind.preprocess.views import read_view
from tests.model_ext.imagebind.preprocess.broken import bits_flipped, cut_off
from tests.model_ext.imagebind.preprocess.cloud import test_pcd, test_ply
from tests.model_ext.imagebind.preprocess.test_npy import saved

NAMES = ("points_a.npy", "points_b.pt", "points_c.ply", "points_d.obj")
POINTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
ROWS = b"".join(b"%.9g %.9g %.9g\n" % tuple(point) for point in POINTS.tolist())
PCD = {**test_pcd.PLAIN, "POINTS": "40"}

FORMATS: dict[str, Callable[[], bytes]] = {
    "npy": lambda: saved(POINTS),
    "npy doubles": lambda: saved(POINTS.astype(">f8")),
    "ply ascii": lambda: test_ply.header("ascii", *test_ply.vertex(40)) + ROWS,
    "ply": lambda: (
        test_ply.header("binary_big_endian", *test_ply.vertex(40)) + POINTS.astype(">f4").tobytes()
    ),
    "pcd ascii": lambda: test_pcd.header("ascii", **PCD) + ROWS,
    "pcd": lambda: test_pcd.header("binary", **PCD) + POINTS.tobytes(),
    "obj": lambda: b"o thing\n" + b"".join(b"v " + row for row in ROWS.splitlines(keepends=True)),
    "pts": lambda: b"40\n" + ROWS,
    "xyz": lambda: ROWS,
}


@pytest.mark.parametrize("name", NAMES)
def test_released_clouds(
    name: str, media: Path, golden_inputs: dict[str, Tensor], config: PreprocessConfig
) -> None:
    data = (media / name).read_bytes()
    cloud = read_points(data, config, Limits(torch_clouds=True))
    assert cloud.dtype == torch.float32
    assert torch.equal(cloud[:64], golden_inputs[f"{name}/head"])
    torch.testing.assert_close(
        cloud.double().sum(0), golden_inputs[f"{name}/sum"], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_apart_by_content(
    name: str, config: PreprocessConfig, limits: Limits
) -> None:
    cloud = read_points(FORMATS[name](), config, limits)
    assert torch.equal(cloud, torch.from_numpy(POINTS))


def test_torch_files_are_refused_unless_asked_for(
    media: Path, config: PreprocessConfig, limits: Limits
) -> None:
    with pytest.raises(DecodeError, match="not accepted: save as"):
        read_points((media / "points_b.pt").read_bytes(), config, limits)


@pytest.mark.parametrize("name", FORMATS)
def test_too_few_and_too_many_points(name: str, limits: Limits) -> None:
    with pytest.raises(DecodeError, match="fewer than 41 points"):
        read_points(FORMATS[name](), PreprocessConfig(min_points=41), limits)
    # The reader of arrays does not count rows. It accepts 16 numbers for each permitted point, so
    # only a lower limit rejects this array.
    few = 2 if "npy" in name else 39
    with pytest.raises(DecodeError, match=r"more than (39 points|\d+ elements)"):
        read_points(FORMATS[name](), PreprocessConfig(), Limits(cloud_file_points=few))


def test_clouds_above_the_limit_are_subsampled(config: PreprocessConfig) -> None:
    notes: Notes = {}
    cloud = read_points(saved(POINTS), config, Limits(cloud_points=35), notes=notes)
    assert notes["subsampled_from"] == 40
    rows = {tuple(row) for row in POINTS.tolist()}
    assert len({tuple(row) for row in cloud.tolist()} & rows) == 35
    again = read_points(saved(POINTS), config, Limits(cloud_points=35))
    assert torch.equal(cloud, again)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_points_that_are_not_finite_are_dropped(
    value: float, config: PreprocessConfig, limits: Limits
) -> None:
    cloud = POINTS.astype(np.float64)
    cloud[17, 1] = value
    text = b"".join(b"%g %g %g\n" % tuple(point) for point in cloud.tolist())
    for data in (saved(cloud), text):
        notes: Notes = {}
        left = read_points(data, config, limits, notes=notes)
        assert (len(left), notes["dropped_rows"]) == (39, 1)
    with pytest.raises(DecodeError, match="fewer than 40"):
        read_points(saved(cloud), PreprocessConfig(min_points=40), limits)


def test_numbers_beyond_float32_are_refused(config: PreprocessConfig, limits: Limits) -> None:
    """in float64, in which arrays and texts are read, these numbers are finite"""
    cloud = POINTS.astype(np.float64)
    cloud[17, 1] = 1e300
    text = b"".join(b"%g %g %g\n" % tuple(point) for point in cloud.tolist())
    for data in (saved(cloud), text):
        with pytest.raises(DecodeError, match="beyond"):
            read_points(data, config, limits)


@pytest.mark.parametrize("normalize", [True, "auto"])
def test_metric_coordinates_are_normalized_on_demand(
    normalize: Literal[True, "auto"], config: PreprocessConfig
) -> None:
    metric = (POINTS.astype(np.float64) + np.array([500_000, 5_000_000, 100])) * 10
    text = b"".join(b"%.9g %.9g %.9g\n" % tuple(point) for point in metric.tolist())
    cloud = read_points(text, config, Limits(), ReadOptions(normalize=normalize))
    assert cloud.norm(dim=1).max() == pytest.approx(1)
    centred = POINTS - POINTS.mean(0)
    expected = centred / np.linalg.norm(centred, axis=1).max()
    np.testing.assert_allclose(cloud.numpy(), expected, atol=1e-2)
    for array in (metric, metric.T, metric[None], metric.astype(">f8")):
        exact = read_points(saved(array), config, Limits(), ReadOptions(normalize=normalize))
        np.testing.assert_allclose(exact.numpy(), expected, atol=1e-6)
    inside = POINTS / 10
    assert torch.equal(
        read_points(saved(inside), config, Limits(), ReadOptions(normalize="auto")),
        torch.from_numpy(inside),
    )


def test_huge_coordinates_are_refused_with_a_hint(config: PreprocessConfig, limits: Limits) -> None:
    with pytest.raises(DecodeError, match="unit sphere"):
        read_points(saved(POINTS * 1e5), config, limits)


@pytest.mark.parametrize("shape", [(120,), (40, 2), (40, 17), (2, 2, 10, 3), (0, 3)])
def test_arrays_of_other_shapes_are_refused(
    shape: tuple[int, ...], config: PreprocessConfig, limits: Limits
) -> None:
    with pytest.raises(DecodeError, match=r"\(N, 3\)|fewer than 32"):
        read_points(saved(np.zeros(shape, np.float32)), config, limits)


@pytest.mark.parametrize("data", [b"", b"\x00" * 99, b"GIF89a", b"hello\n", b"\xff" * 99])
def test_other_bytes_are_refused(data: bytes, config: PreprocessConfig, limits: Limits) -> None:
    with pytest.raises(DecodeError, match=r"the point cloud is damaged|is a picture"):
        read_points(data, config, limits)


@pytest.mark.parametrize("name", FORMATS)
def test_broken_files_give_points_or_a_decode_error(
    name: str, config: PreprocessConfig, limits: Limits
) -> None:
    good = FORMATS[name]()
    for data in [*cut_off(good), *bits_flipped(good, 60), *bits_flipped(good, 60, flips=1)]:
        try:
            cloud = read_points(data, config, limits)
        except DecodeError:
            continue
        assert cloud.isfinite().all()
        assert cloud.shape[1] == 3


def test_a_model_trained_on_a_number_of_points_gets_that_many() -> None:
    cloud = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    data = saved(cloud)
    fewer = read_points(data, PreprocessConfig(points=100), Limits()).numpy()
    more = read_points(data, PreprocessConfig(points=500), Limits()).numpy()
    rows = {tuple(point) for point in cloud.tolist()}
    assert fewer.shape == (100, 3)
    assert len({tuple(p) for p in fewer.tolist()} & rows) == 100  # all points differ
    assert more.shape == (500, 3)
    assert {tuple(p) for p in more.tolist()} == rows  # each point of the cloud occurs
    again = read_points(data, PreprocessConfig(points=100), Limits()).numpy()
    np.testing.assert_array_equal(fewer, again)


def test_points_are_scaled_into_the_unit_sphere() -> None:
    """Coordinates of millions of metres keep their precision. The reference computes in float64."""
    scan = POINTS.astype(np.float64) * 3 + 5_000_000
    centered = scan - scan.mean(axis=0)
    expected = centered / np.linalg.norm(centered, axis=1).max()
    points = read_view("points", "point", saved(scan), Limits())
    np.testing.assert_allclose(points, expected, atol=1e-6)
    assert read_view("points", "point", saved(scan), Limits(cloud_points=7)).shape == (7, 3)
    assert read_view("points", "image", saved(scan), Limits()).shape == (0,)
