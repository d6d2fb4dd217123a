"""The encoders of `ImageBind` give the recorded outputs of the released code."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model_ext.errors import ConfigError
from model_ext.imagebind.config import (
    AudioConfig,
    ImageBindConfig,
    PointConfig,
    TextConfig,
    VisionConfig,
)
from model_ext.imagebind.model import ImageBind, TensorError
from tests.model_ext.imagebind.conftest import ENCODER_ERROR
from tests.model_ext.imagebind.formulas import formula_input
from tests.rounding import between

SMALL = ImageBindConfig(
    embed_dim=16,
    vision=VisionConfig(width=12, blocks=2, heads=2, image_size=32, patch_size=16, frames=1),
    text=TextConfig(width=12, blocks=1, heads=2, vocab_size=50, context_length=8),
    audio=AudioConfig(
        width=12, blocks=1, heads=2, mel_bins=32, target_length=40, kernel_size=16, stride=8
    ),
    point=PointConfig(width=12, blocks=1, heads=2, groups=6, group_size=4, projection=12),
)
TEXTS = [f"text{number}" for number in range(6)]
FORMULAS = {"depth": "depth", "thermal": "thermal", "imu": "imu", "vision252": "vision"}


def check_rounding(prenorm: Tensor, expected: Tensor) -> None:
    bound = ENCODER_ERROR * expected.abs().max().item()
    torch.testing.assert_close(prenorm, expected, rtol=0, atol=bound)


def check_post(post: Tensor, golden: Tensor) -> None:
    """Compare two vectors. The allowed error is 1e-4 times the length, which is the logit scale."""
    torch.testing.assert_close(post, golden, rtol=0, atol=1e-4 * golden.norm().item())


@pytest.mark.parametrize("name", FORMULAS)
def test_closed_formulas(name: str, tiny: ImageBind, golden_embeddings: dict[str, Tensor]) -> None:
    inputs = formula_input(name)[None]
    prenorm = tiny.prenorm(FORMULAS[name], inputs)
    check_rounding(prenorm, golden_embeddings[f"{name}/prenorm"])
    check_post(tiny.embed(FORMULAS[name], inputs), golden_embeddings[f"{name}/post"])


def test_texts_in_one_batch(
    tiny: ImageBind, golden_inputs: dict[str, Tensor], golden_embeddings: dict[str, Tensor]
) -> None:
    prenorm = tiny.prenorm("text", golden_inputs["text/tokens"])
    post = tiny.embed("text", golden_inputs["text/tokens"])
    expected = torch.cat([golden_embeddings[f"{name}/prenorm"] for name in TEXTS])
    check_rounding(prenorm, expected)
    check_post(post, torch.cat([golden_embeddings[f"{name}/post"] for name in TEXTS]))


def example(modality: str, count: int, config: ImageBindConfig) -> Tensor:
    """Return random inputs (count, ...) of a modality, with the sizes in `config`."""
    generator = torch.Generator().manual_seed(3)
    if modality == "text":
        assert config.text is not None
        ids = torch.zeros(count, config.text.context_length, dtype=torch.int64)
        ids[:, :5] = torch.randint(1, config.text.vocab_size - 1, (count, 5), generator=generator)
        ids[:, 5] = config.text.vocab_size - 1
        return ids
    if modality == "audio":
        assert config.audio is not None
        shape: tuple[int, ...] = (3, 1, config.audio.mel_bins, config.audio.target_length)
    elif modality == "vision":
        assert config.vision is not None
        shape = (3, config.vision.image_size, config.vision.image_size)
    else:
        shapes = {"depth": (1, 224, 224), "thermal": (1, 224, 224), "imu": (6, 2000)}
        shape = shapes.get(modality, (70, 3))
    return torch.randn(count, *shape, generator=generator)


MODALITIES = ("vision", "text", "audio", "depth", "thermal", "imu", "point")


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_batch_equals_its_samples(
    modality: str, tiny: ImageBind, tiny_config: ImageBindConfig
) -> None:
    batch = example(modality, 3, tiny_config)
    single = torch.cat([tiny.prenorm(modality, sample[None]) for sample in batch])
    check_rounding(tiny.prenorm(modality, batch), single)


@pytest.mark.parametrize("modality", MODALITIES)
def test_unit_has_length_one_and_the_direction_of_embed(
    modality: str, tiny: ImageBind, tiny_config: ImageBindConfig
) -> None:
    inputs = example(modality, 2, tiny_config)
    unit, embed = tiny.unit(modality, inputs), tiny.embed(modality, inputs)
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(unit * embed.norm(dim=-1, keepdim=True), embed)


def test_clips_are_averaged_after_normalisation(tiny: ImageBind) -> None:
    clips = torch.randn(2, 3, 1, 128, 204)
    each = torch.stack([tiny.embed("audio", sample) for sample in clips])  # shape (B, S, D)
    check_rounding(tiny.embed("audio", clips), each.mean(1))
    assert (tiny.embed("audio", clips).norm(dim=-1) < 20).all(), "the mean vector is too long"
    prenorms = torch.stack([tiny.prenorm("audio", sample) for sample in clips])
    check_rounding(tiny.prenorm("audio", clips), prenorms.mean(1))


def test_video_clips_are_samples_of_two_frames(tiny: ImageBind) -> None:
    video = torch.randn(1, 2, 3, 2, 224, 224)
    clips = torch.cat([tiny.embed("vision", clip[None, None]) for clip in video[0]])
    check_rounding(tiny.embed("vision", video)[0], clips.mean(0))


def test_logit_scale_is_clipped_at_100(tiny: ImageBind, golden_inputs: dict[str, Tensor]) -> None:
    log_scale = tiny.encoder("text").post.log_logit_scale
    assert log_scale is not None
    assert log_scale.exp() > 100, "the stored logit scale must exceed 100"
    post = tiny.embed("text", golden_inputs["text/tokens"])
    torch.testing.assert_close(
        post.norm(dim=-1), torch.full((6,), 100.0), rtol=between([40]), atol=0
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("modality", MODALITIES)
def test_half_precision_stays_near_and_returns_float32(
    modality: str,
    dtype: torch.dtype,
    tiny: ImageBind,
    tiny_config: ImageBindConfig,
) -> None:
    half = ImageBind.from_tensors(
        {name: tensor.clone() for name, tensor in tiny.state_dict().items()}, tiny_config
    ).cast(dtype)
    inputs = example(modality, 2, tiny_config)
    with torch.no_grad():
        unit = half.unit(modality, inputs)
    assert unit.dtype == torch.float32
    assert (unit * tiny.unit(modality, inputs)).sum(-1).min() > 0.999
    scale = half.encoder(modality).post.log_logit_scale
    assert scale is None or scale.dtype == torch.float32


def test_a_cast_moves_each_weight_to_the_device(
    tiny: ImageBind, tiny_config: ImageBindConfig
) -> None:
    tensors = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    plain = ImageBind.from_tensors(dict(tensors), tiny_config).cast(torch.bfloat16)
    moves: list[tuple[torch.dtype, torch.device]] = []

    class Recorder(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func is Tensor.to and isinstance(args[1], str):
                moves.append((args[0].dtype, torch.device(args[1])))
            return func(*args, **(kwargs or {}))

    with Recorder():
        moved = ImageBind.from_tensors(tensors, tiny_config).cast(torch.bfloat16, "cpu")
    assert len(moves) == len(plain.state_dict())
    for name, tensor in plain.state_dict().items():
        assert moved.state_dict()[name].dtype == tensor.dtype
        assert torch.equal(moved.state_dict()[name], tensor)


@pytest.mark.parametrize("modality", ["vision", "depth", "imu", "point"])
def test_float64_inputs_do_not_leak(
    modality: str, tiny: ImageBind, tiny_config: ImageBindConfig
) -> None:
    """The encoder accepts points in float64, for which the released code fails."""
    inputs = example(modality, 1, tiny_config)
    from_double = tiny.prenorm(modality, inputs.double())
    assert from_double.dtype == torch.float32
    assert torch.equal(from_double, tiny.prenorm(modality, inputs))


def test_autocast_does_not_choose_other_groups(
    tiny: ImageBind, tiny_config: ImageBindConfig
) -> None:
    clouds = example("point", 2, tiny_config)
    with torch.autocast("cpu", torch.bfloat16):
        unit = tiny.unit("point", clouds)
    assert (unit * tiny.unit("point", clouds)).sum(-1).min() > 0.999


def test_folder_round_trip(tmp_path: Path, tiny: ImageBind, tiny_config: ImageBindConfig) -> None:
    tiny.save(tmp_path / "encoders")
    again = ImageBind.from_folder(tmp_path / "encoders")
    assert again.config == tiny_config
    state = again.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny.state_dict().items())
    assert not again.training
    half = ImageBind.from_folder(tmp_path / "encoders", "cpu", torch.bfloat16)
    assert half.encoder("vision").head.proj.weight.dtype == torch.bfloat16


def test_folder_errors_name_the_file_or_the_tensor(tmp_path: Path, tiny: ImageBind) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        ImageBind.from_folder(tmp_path)
    tiny.save(tmp_path)
    tensors = tiny.state_dict()
    del tensors["imu.head.proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(TensorError, match=r"missing .*imu\.head\.proj\.weight"):
        ImageBind.from_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(TensorError, match=r"model\.safetensors is damaged"):
        ImageBind.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json"):
        ImageBind.from_folder(tmp_path)


def test_any_subset_of_modalities_is_a_model(tmp_path: Path) -> None:
    config = replace(SMALL, audio=None, text=None)
    ImageBind(config).save(tmp_path)
    model = ImageBind.from_folder(tmp_path)
    assert model.modalities == ("vision", "point")
    with pytest.raises(ValueError, match="no 'audio' encoder; this model has vision, point"):
        model.unit("audio", torch.zeros(1, 1, 32, 40))


def test_reduced_sizes_learn_to_bring_pairs_together() -> None:
    """Training works: every parameter gets a gradient, and the loss decreases."""
    torch.manual_seed(0)
    model = ImageBind(SMALL)
    inputs = {modality: example(modality, 4, SMALL) for modality in SMALL.modalities}
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(50):
        images = model.unit("vision", inputs["vision"])
        others = [model.embed(name, inputs[name]) for name in SMALL.modalities[1:]]
        targets = torch.arange(4)
        terms = [torch.nn.functional.cross_entropy(other @ images.T, targets) for other in others]
        loss = torch.stack(terms).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        without = [name for name, p in model.named_parameters() if p.grad is None]
        assert not without
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert model.get_buffer("point.trunk.groups.norm_1.running_mean").abs().sum() > 0
