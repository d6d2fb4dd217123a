"""UnclipDecoder draws the same pictures as diffusers' pipeline, with random weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_ext.decoders.drawer import Drawer, load
from model_ext.decoders.picture_decoder import PictureSettings, SettingsError
from model_ext.decoders.unclip import UnclipDecoder
from model_ext.errors import ConfigError
from model_ext.side import SideData, Task
from tests.model_ext.decoders.test_drawer import pixels

diffusers = pytest.importorskip("diffusers", reason="of the extra `images`")

DIM = 32
SEEDS = (3, 1, 2)
PROMPTS = ("a cat", "", "two dogs")


def tiny_pipeline() -> Any:
    """A pipeline with random weights, which reads embeddings of 32 numbers."""
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    torch.manual_seed(0)
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    vision = CLIPVisionConfig(**text, projection_dim=DIM, image_size=32, patch_size=8)
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=DIM)
    normalizer.mean.data = torch.randn(1, DIM)
    normalizer.std.data = torch.rand(1, DIM) + 0.5
    return diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(crop_size=32, size=32),
        image_encoder=CLIPVisionModelWithProjection(vision),
        image_normalizer=normalizer,
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=letter_tokenizer(),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                **text, intermediate_size=37, vocab_size=600, bos_token_id=0, eos_token_id=1
            )
        ),
        unet=diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(32, 64),
            attention_head_dim=(2, 4),
            class_embed_type="projection",
            projection_class_embeddings_input_dim=2 * DIM,
            cross_attention_dim=32,
            layers_per_block=1,
            upcast_attention=True,
            use_linear_projection=True,
        ),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        vae=diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
    )


def letter_tokenizer() -> Any:
    """A tokenizer of single characters."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("unclip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        tiny_pipeline().save_pretrained(folder, safe_serialization=True)
        yield folder


@pytest.fixture(scope="module")
def own(folder: Path) -> Any:
    """Load diffusers' own pipeline from the same folder."""
    pipeline = diffusers.StableUnCLIPImg2ImgPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def decoder(folder: Path) -> UnclipDecoder:
    return UnclipDecoder.from_folder(folder, "cpu")


def embeddings() -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return 3 * np.random.default_rng(0).normal(size=(3, DIM)).astype(np.float32)


@pytest.mark.parametrize("noise_level", [0, 50])
def test_pictures_equal_diffusers_own_call(
    own: Any, decoder: UnclipDecoder, noise_level: int
) -> None:
    settings = PictureSettings(16, 24, 2, 4.0, noise_level)
    steps: list[int] = []
    drawn = decoder.draw(embeddings(), PROMPTS, SEEDS, settings, lambda: steps.append(1))
    assert (drawn.shape, drawn.dtype, len(steps)) == ((3, 24, 16, 3), np.uint8, 2)
    for row, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS, strict=True)):
        expected = own(
            prompt=prompt,
            image_embeds=torch.from_numpy(embeddings()[row : row + 1]),
            generator=torch.Generator().manual_seed(seed),
            noise_level=noise_level,
            **{"width": 16, "height": 24, "num_inference_steps": 2, "guidance_scale": 4.0},
            output_type="np",
        ).images[0]
        assert np.abs(drawn[row] / 255 - expected).max() <= 1 / 255
    assert (drawn[0] != drawn[1]).any()


def test_defaults_and_limits_come_from_the_pipeline(decoder: UnclipDecoder) -> None:
    assert (decoder.embed_dim, decoder.defaults) == (DIM, PictureSettings(8, 8, 20, 10.0, 0))
    for settings, message in (
        (PictureSettings(16, 20, 3, 4.0, 0), "multiples of 8"),
        (PictureSettings(16, 16, 3, 4.0, 1000), "at most 999"),
    ):
        with pytest.raises(SettingsError, match=message):
            decoder.check(settings)


def test_the_drawer_opens_a_pipeline(folder: Path) -> None:
    drawer = load(folder, "cpu", 1, 2)
    assert isinstance(drawer, Drawer)
    document = {"prompt": "a cat", "seed": 3, "width": 16, "height": 24, "steps": 1}
    (result,) = drawer.run([Task(SideData(document, {"embedding": embeddings()[0]}))])
    assert pixels(result).shape == (24, 16, 3)


def test_weights_that_must_be_unpickled_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "pickled")
    weights = tmp_path / "pickled/unet/diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ConfigError, match="not a Stable unCLIP pipeline"):
        UnclipDecoder.from_folder(tmp_path / "pickled", "cpu")
