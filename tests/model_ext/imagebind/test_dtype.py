"""Compare encoders in bfloat16 with float32, and check that text requests use float32."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model_ext.imagebind.config import ENCODER_OF
from model_ext.imagebind.dtype import choose_dtype, torch_dtype, zero_image
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.limits import Limits
from model_ext.imagebind.preprocess.registry import preprocess

DEMO = Path(__file__).parents[3] / "model_ext" / "demo"
FILES = {
    "image": "cat.jpg",
    "audio": "penguin.wav",
    "video": "umbrella.mp4",
    "point": "airplane.ply",
}
TOP = 10


@pytest.fixture(scope="module")
def demo() -> ImageBind:
    return ImageBind.from_folder(DEMO / "encoders")


@pytest.fixture(scope="module")
def demo_bfloat16() -> ImageBind:
    return ImageBind.from_folder(DEMO / "encoders", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def cache() -> Tensor:
    """The image features (N, D) of the demonstration's cache."""
    return torch.from_numpy(np.load(DEMO / "cache" / "vectors.npy").astype(np.float32))


@pytest.fixture(scope="module")
def tiny_folder(tiny: ImageBind, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    tiny.save(folder)
    return folder


def samples(modality: str, model: ImageBind) -> Tensor:
    """Return inputs (B, ...) of a modality: variations of a file of the demonstration, or texts."""
    config = PreprocessConfig.of(model.config)
    if modality == "text":
        names = ("an airplane", "a red apple", "a dog", "a violin", "a cat", "rain", "the moon")
        return torch.stack([preprocess("text", name.encode(), config, Limits()) for name in names])
    data = (DEMO / "media" / FILES[modality]).read_bytes()
    sample = preprocess(modality, data, config, Limits())
    generator = torch.Generator().manual_seed(0)
    if modality == "point":
        turns = [torch.randn(3, 3, generator=generator) for _ in range(7)]
        return torch.stack([sample, *(sample @ torch.linalg.qr(turn).Q for turn in turns)])
    count = 2 if modality == "video" else 8
    noise = torch.randn(count, *sample.shape, generator=generator)
    return sample + noise * torch.linspace(0, 0.5, count).view(-1, *[1] * sample.ndim)


@pytest.mark.parametrize("modality", [*FILES, "text"])
@torch.inference_mode()
def test_bfloat16_embeddings_have_the_direction_and_neighbors_of_float32(
    modality: str, demo: ImageBind, demo_bfloat16: ImageBind, cache: Tensor
) -> None:
    inputs = samples(modality, demo)
    expected = demo.unit(ENCODER_OF[modality], inputs)
    embeddings = demo_bfloat16.unit(ENCODER_OF[modality], inputs)
    assert (embeddings * expected).sum(-1).min() >= 0.9998
    neighbors, exact = ((e @ cache.T).topk(TOP).indices.tolist() for e in (embeddings, expected))
    common = [len(set(a) & set(b)) for a, b in zip(neighbors, exact, strict=True)]
    # one neighbor may differ, if two are almost equally similar
    assert sum(common) >= 0.98 * TOP * len(inputs) - 1


def test_zero_image_is_computed_in_float32_only(tiny: ImageBind, tiny_folder: Path) -> None:
    with torch.inference_mode():
        expected = tiny.unit("vision", torch.zeros(1, 3, 224, 224))[0]
    torch.testing.assert_close(zero_image(tiny), expected)
    model = ImageBind.from_folder(tiny_folder, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="float32 weights"):
        zero_image(model)


def test_cast_keeps_scales_coordinates_and_sums_of_texts_in_float32(tiny_folder: Path) -> None:
    model = ImageBind.from_folder(tiny_folder, dtype=torch.bfloat16)
    kept = {name for name, t in model.state_dict().items() if t.dtype == torch.float32}
    assert {name for name in kept if not name.startswith(("point.", "text."))} == {
        f"{modality}.post.log_logit_scale" for modality in ("audio", "depth", "thermal", "imu")
    }
    assert "point.trunk.position_1.weight" in kept
    assert "point.trunk.groups.norm_3.running_var" in kept
    assert "point.trunk.groups.conv_2.weight" not in kept
    assert "text.post.log_logit_scale" in kept
    assert "text.stem.positions" in kept
    assert not any("attention" in name or "mlp" in name for name in kept)


@pytest.mark.parametrize(
    ("setting", "dtype"),
    [("auto", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")],
)
def test_dtype_on_a_cpu(setting: str, dtype: str) -> None:
    chosen = choose_dtype(setting, "cpu")  # type: ignore[arg-type]
    assert chosen == dtype
    assert torch_dtype(chosen) is getattr(torch, dtype)
