from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.model import ImageBind, TensorError
from model_ext.imagebind.names import to_ours
from model_ext.imagebind.released import from_released

Layout = dict[str, tuple[int, ...]]


def test_released_sizes_match_the_released_layout(released_layout: Layout) -> None:
    with torch.device("meta"):
        model = ImageBind(ImageBindConfig.released())
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {to_ours(name): shape for name, shape in released_layout.items()}
    theirs.pop(None)
    assert ours == theirs


def test_imagebind_huge_has_no_point_modality(released_layout: Layout) -> None:
    huge = {
        name: torch.empty(shape, device="meta")
        for name, shape in released_layout.items()
        if "point" not in name
    }
    assert len(huge) == 1311
    model = from_released(huge, ImageBindConfig.released())
    assert "point" not in model.modalities
    with pytest.raises(ValueError, match="no 'point' encoder"):
        model.encoder("point")


def test_missing_tensor_is_named(
    tiny_tensors: dict[str, Tensor], tiny_config: ImageBindConfig
) -> None:
    name = "modality_trunks.audio.blocks.1.attn.bias_k"
    rest = {key: value for key, value in tiny_tensors.items() if key != name}
    with pytest.raises(TensorError, match=f"missing .*{name}"):
        from_released(rest, tiny_config)


def test_unknown_tensor_is_named(
    tiny_tensors: dict[str, Tensor], tiny_config: ImageBindConfig
) -> None:
    extra = {**tiny_tensors, "modality_heads.vision.4.weight": torch.zeros(1)}
    with pytest.raises(TensorError, match=r"unknown .*modality_heads\.vision\.4\.weight"):
        from_released(extra, tiny_config)


def test_tensors_of_an_unconfigured_modality_are_named(
    tiny_tensors: dict[str, Tensor], tiny_config: ImageBindConfig
) -> None:
    message = r"ImageBind tensors of a modality that is not configured: .* and \d+ more"
    with pytest.raises(TensorError, match=message):
        from_released(tiny_tensors, replace(tiny_config, imu=None))


def test_wrong_size_names_tensor_and_both_shapes(
    tiny_tensors: dict[str, Tensor], tiny_config: ImageBindConfig
) -> None:
    assert tiny_config.point is not None
    wrong = replace(tiny_config, point=replace(tiny_config.point, position_hidden=8))
    with pytest.raises(TensorError, match=r"pos_embed\.0\.bias is \(16,\), configured \(8,\)"):
        from_released(tiny_tensors, wrong)


def test_released_sizes_do_not_fit_the_tiny_file(tiny_tensors: dict[str, Tensor]) -> None:
    with pytest.raises(TensorError, match="missing"):
        from_released(tiny_tensors, ImageBindConfig.released())
