import io

import numpy as np
import pytest
import torch
from PIL import Image

from model_ext.imagebind.preprocess.arrays import read_depth, read_imu, read_thermal
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.errors import DecodeError
from model_ext.imagebind.preprocess.limits import Limits
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
@pytest.mark.parametrize("shape", [(224,), (2000, 6), (112, 448), (3, 224, 224), (224, 0)])
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


def test_pictures_of_8_and_16_bits_are_scaled_to_one(limits: Limits) -> None:
    config = PreprocessConfig(depth_size=32, thermal_size=16)
    ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (32, 1))
    from_8 = read_depth(saved_image(Image.fromarray(ramp), "PNG"), config, limits)
    from_16 = read_depth(
        saved_image(Image.fromarray(ramp.astype(np.uint16) * 257), "PNG"), config, limits
    )
    expected = torch.from_numpy(ramp[:, 4:36].astype(np.float32) / 255)[None]
    torch.testing.assert_close(from_8, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(from_16, expected, rtol=0, atol=1e-6)
    assert read_thermal(saved_image(Image.fromarray(ramp), "PNG"), config, limits).shape[1:] == (
        16,
        16,
    )


def test_float_pictures_keep_their_values(limits: Limits) -> None:
    values = np.linspace(-5, 900, 32 * 32, dtype=np.float32).reshape(32, 32)
    data = saved_image(Image.fromarray(values), "TIFF")
    depth = read_depth(data, PreprocessConfig(depth_size=32), limits)
    torch.testing.assert_close(depth[0], torch.from_numpy(values))


def test_float_pictures_must_be_finite(limits: Limits) -> None:
    values = np.full((32, 32), np.nan, dtype=np.float32)
    with pytest.raises(DecodeError, match="not finite"):
        read_depth(saved_image(Image.fromarray(values), "TIFF"), PreprocessConfig(), limits)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_pictures_of_several_channels_are_refused(
    mode: str, config: PreprocessConfig, limits: Limits
) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = Image.new("RGB", (50, 40), (10, 20, 30)).convert(mode)
    with pytest.raises(DecodeError, match="one channel"):
        read_depth(saved_image(picture, kind), config, limits)


def test_a_picture_of_three_equal_channels_is_one_channel(limits: Limits) -> None:
    gray = Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32))
    config = PreprocessConfig(depth_size=32)
    one, three = (saved_image(each, "PNG") for each in (gray, gray.convert("RGB")))
    assert torch.equal(read_depth(three, config, limits), read_depth(one, config, limits))


def table(rows: np.ndarray) -> bytes:
    lines = ["ax,ay,az,gx,gy,gz", *(",".join(map(str, row)) for row in rows.tolist())]
    return "\n".join(lines).encode()


@pytest.mark.parametrize("count", [1, 2000, 2003])
def test_csv_of_imu_values_is_transposed_cut_and_padded(count: int, limits: Limits) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 6)).astype(np.float32)
    read = read_imu(table(rows), PreprocessConfig(), limits).numpy()
    assert read.shape == (6, 2000)
    np.testing.assert_array_equal(read[:, :count], rows[:2000].T)
    assert not read[:, count:].any()


@pytest.mark.parametrize("data", [b"", b"a,b\n1,2", b"h\n1,2,3,4,5,x", b"h\n1\n1,2", b"\xff\xfe"])
def test_other_tables_are_refused(data: bytes, limits: Limits) -> None:
    with pytest.raises(DecodeError, match="CSV"):
        read_imu(data, PreprocessConfig(), limits)


def test_damaged_pictures_are_refused(config: PreprocessConfig, limits: Limits) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    data = saved_image(Image.fromarray(noise), "PNG")
    with pytest.raises(DecodeError, match="damaged"):
        read_thermal(data[: len(data) // 2], config, limits)
    with pytest.raises(DecodeError, match="damaged"):
        read_imu(io.BytesIO(b"\x93NUMPY").getvalue(), config, limits)
