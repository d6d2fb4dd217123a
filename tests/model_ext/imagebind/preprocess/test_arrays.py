import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model_ext.imagebind.preprocess.arrays import read_depth, read_thermal
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.imu import read_imu
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.options import Notes, ReadOptions
from tests.model_ext.imagebind.formulas import formula_input
from tests.model_ext.imagebind.preprocess.test_image import saved as saved_image
from tests.model_ext.imagebind.preprocess.test_npy import saved

READERS = {"depth": read_depth, "thermal": read_thermal, "imu": read_imu}


@pytest.mark.parametrize("name", READERS)
def test_npy_goes_in_as_it_is(name: str, config: PreprocessConfig, limits: Limits) -> None:
    expected = formula_input(name)
    assert torch.equal(READERS[name](saved(expected.numpy()), config, limits), expected)
    from_double = READERS[name](saved(expected.double().numpy()), config, limits)
    assert from_double.dtype == torch.float32
    assert torch.equal(from_double, expected)


def test_axes_of_length_one_may_be_left_out(config: PreprocessConfig, limits: Limits) -> None:
    for shape in ((224, 224), (1, 224, 224), (1, 1, 224, 224)):
        data = saved(np.zeros(shape, np.float32))
        assert read_depth(data, config, limits).shape == (1, 224, 224)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("shape", [(224,), (3, 224, 224), (0,)])
def test_other_shapes_are_refused(
    name: str, shape: tuple[int, ...], config: PreprocessConfig, limits: Limits
) -> None:
    with pytest.raises(DecodeError, match=r"the .npy file (must have the shape|has more than)"):
        READERS[name](saved(np.zeros(shape, np.float32)), config, limits)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_no_numbers_are_refused(
    value: float, config: PreprocessConfig, limits: Limits
) -> None:
    motion = np.zeros((6, 2000))
    motion[3, 7] = value
    with pytest.raises(DecodeError, match="not finite"):
        read_imu(saved(motion), config, limits)
    values = np.zeros((224, 224))
    values[3, 7] = value
    for reader in (read_depth, read_thermal):
        with pytest.raises(DecodeError, match="not finite"):
            reader(saved(values), config, limits)


@pytest.mark.parametrize("reader", [read_depth, read_thermal])
def test_an_array_needs_values(reader: Any, config: PreprocessConfig, limits: Limits) -> None:
    with pytest.raises(DecodeError, match="no values"):
        reader(saved(np.zeros((224, 0), np.float32)), config, limits)


def test_the_middle_of_a_wide_array_is_resized(limits: Limits) -> None:
    """The reader resizes the array, and then cuts out the middle square. The left and right ends of
    the array therefore change only the outermost columns of the square.
    """
    config = PreprocessConfig(thermal_size=16)
    wide = np.full((32, 64), 9, np.float32)
    wide[:, 16:48] = np.repeat(np.linspace(0, 1, 16, dtype=np.float32), 2)
    wide[:, 16:48] += 8
    thermal = read_thermal(saved(wide), config, limits)
    assert thermal.shape == (1, 16, 16)
    expected = torch.linspace(0, 1, 16)[2:-2].expand(16, 12)
    torch.testing.assert_close(thermal[0, :, 2:-2], expected, rtol=0, atol=1e-3)


RAMP = np.tile(np.linspace(1, 255, 40).astype(np.uint8), (32, 1))


def test_pictures_of_8_bits_are_scaled_to_one(limits: Limits) -> None:
    config = PreprocessConfig(depth_size=32, thermal_size=16)
    depth = read_depth(saved_image(Image.fromarray(RAMP), "PNG"), config, limits)
    expected = torch.from_numpy(RAMP[:, 4:36].astype(np.float32) / 255)[None]
    torch.testing.assert_close(depth, expected, rtol=0, atol=1e-6)
    thermal = read_thermal(saved_image(Image.fromarray(RAMP), "PNG"), config, limits)
    assert thermal.shape == (1, 16, 16)


def test_depths_become_disparity(limits: Limits) -> None:
    """Depths in millimetres (picture) and in metres (array) give the same disparity, which is 1 at
    the nearest point.
    """
    config = PreprocessConfig(depth_size=32)
    notes: Notes = {}
    millimetres = RAMP.astype(np.uint16) * 20
    # first a point without measurement, then the nearest point
    millimetres[0, 10], millimetres[0, 11] = 0, 20
    picture = read_depth(
        saved_image(Image.fromarray(millimetres), "PNG"), config, limits, notes=notes
    )
    assert notes["disparity"] is True
    inverse = np.where(millimetres > 0, 20 / np.maximum(millimetres, 1), 0)[:, 4:36]
    np.testing.assert_allclose(picture[0].numpy(), inverse, atol=1e-6)
    metres = np.where(millimetres > 0, millimetres / 1000, np.nan).astype(np.float32)
    for data in (saved(metres), saved_image(Image.fromarray(metres), "TIFF")):
        torch.testing.assert_close(read_depth(data, config, limits), picture)


def test_raw_temperatures_are_scaled(limits: Limits) -> None:
    config, raw = PreprocessConfig(thermal_size=32), RAMP.astype(np.uint16) + 28_000
    thermal = read_thermal(saved_image(Image.fromarray(raw), "TIFF"), config, limits)
    assert thermal.min() >= 0
    assert thermal.max() <= 1
    assert thermal[0, 0, -1] - thermal[0, 0, 0] > 0.75


def test_float_pictures_are_scaled(limits: Limits) -> None:
    values = np.linspace(-5, 900, 32 * 32, dtype=np.float32).reshape(32, 32)
    data = saved_image(Image.fromarray(values), "TIFF")
    thermal = read_thermal(data, PreprocessConfig(thermal_size=32), limits)
    torch.testing.assert_close(thermal[0], torch.from_numpy((values + 5) / 905))
    depth = read_depth(data, PreprocessConfig(depth_size=32), limits)
    nearest = values[values > 0].min()
    expected = np.where(values > 0, nearest / values, 0).astype(np.float32)
    torch.testing.assert_close(depth[0], torch.from_numpy(expected))


@pytest.mark.parametrize("reader", [read_depth, read_thermal])
@pytest.mark.parametrize("value", [np.nan, np.inf, 0])
def test_maps_need_valid_values(reader: Any, value: float, limits: Limits) -> None:
    values = np.full((32, 32), value, np.float32)
    values[3, 7] = 0
    for data in (saved(values), saved_image(Image.fromarray(values), "TIFF")):
        with pytest.raises(DecodeError, match="no valid values"):
            reader(data, PreprocessConfig(), limits)


@pytest.mark.parametrize("values", [[3e38, -3e38], [1e-44, 3e38]])
@pytest.mark.parametrize("reader", [read_depth, read_thermal])
def test_extreme_values_give_a_map_or_a_decode_error(
    reader: Any, values: list[float], limits: Limits
) -> None:
    """Regression: numpy warned about an overflow."""
    data = saved(np.tile(np.array(values, np.float32), (32, 16)))
    with contextlib.suppress(DecodeError):
        assert torch.isfinite(reader(data, PreprocessConfig(), limits)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_pictures_of_several_channels_become_grey(
    mode: str, config: PreprocessConfig, limits: Limits
) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    notes: Notes = {}
    data = saved_image(Image.new(mode, (50, 40)), kind)
    assert read_thermal(data, config, limits, notes=notes).shape == (1, 224, 224)
    assert notes["converted_from"] == mode


def imu_table(rate: float, seconds: float, unit: float, header: str) -> tuple[bytes, np.ndarray]:
    """Return a table of slow waves, and the expected values at 2,000 steps in the first 5 s."""

    def waves(t: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(t * (axis + 1) / 2) for axis in range(6)])

    t = np.arange(int(rate * seconds)) / rate
    rows = np.column_stack([t / unit, waves(t).T])
    text = header + "\n".join(",".join(f"{value:.9g}" for value in row) for row in rows)
    end = min(5, t[-1])
    return text.encode(), waves(np.linspace(0, end, 2000))


@pytest.mark.parametrize(("rate", "seconds"), [(50, 12), (400, 5), (100, 3)])
@pytest.mark.parametrize("unit", [1, 1e-3, 1e-9])
@pytest.mark.parametrize(
    "header", ["", "time,acc_x,acc_y,acc_z,gyro_x,gyro_y,gyro_z\n", "t,ax,ay,az,gx,gy,gz\n"]
)
def test_imu_tables(
    rate: float, seconds: float, unit: float, header: str, config: PreprocessConfig, limits: Limits
) -> None:
    data, expected = imu_table(rate, seconds, unit, header)
    values = read_imu(data, config, limits).numpy()
    np.testing.assert_allclose(values, expected, atol=1e-3)


@pytest.mark.parametrize("count", [1, 2000, 2003])
def test_tables_of_imu_values_can_be_cut_and_padded(count: int, limits: Limits) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    lines = ["ax,ay,az,gx,gy,gz", *(",".join(map(str, row)) for row in rows.tolist())]
    options = ReadOptions(pad_rows=True)
    read = read_imu("\n".join(lines).encode(), PreprocessConfig(), limits, options).numpy()
    np.testing.assert_array_equal(read[:, :count], rows[:2000].T)
    assert not read[:, count:].any()


def test_imu_arrays_of_any_length(config: PreprocessConfig, limits: Limits) -> None:
    rows = np.linspace(0, 1, 500, dtype=np.float32)[:, None].repeat(6, 1)
    for array in (rows, rows.T, rows[None]):
        values = read_imu(saved(np.ascontiguousarray(array)), config, limits)
        torch.testing.assert_close(values[2], torch.linspace(0, 1, 2000))


@pytest.mark.parametrize(
    "data", [b"", b"hello\n", b"1,2,3\n4,5,6\n", b"t,x\n1,2\n", b"1 2 3 4 5 6\n"]
)
def test_other_imu_tables_are_refused(
    data: bytes, config: PreprocessConfig, limits: Limits
) -> None:
    with pytest.raises(DecodeError):
        read_imu(data, config, limits)


def test_damaged_pictures_are_refused(config: PreprocessConfig, limits: Limits) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    data = saved_image(Image.fromarray(noise), "PNG")
    with pytest.raises(DecodeError, match="damaged"):
        read_thermal(data[: len(data) // 2], config, limits)
    with pytest.raises(DecodeError, match="damaged"):
        read_imu(io.BytesIO(b"\x93NUMPY").getvalue(), config, limits)
