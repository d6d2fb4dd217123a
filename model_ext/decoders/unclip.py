"""Draw with Stable unCLIP: diffusers' StableUnCLIPImg2ImgPipeline (extra `images`).

The pipeline takes ImageBind's embedding in place of CLIP's (Girdhar et al. 2023), and the text
of the request as its prompt. This module imports diffusers only when it loads a decoder.

Shapes: B pictures, D embedding.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_ext.conditioning import Vector
from model_ext.decoders.picture_decoder import PictureSettings, Pixels, SettingsError
from model_ext.errors import ConfigError

STEPS, GUIDANCE = 20, 10.0  # The pipeline's own defaults.
MULTIPLE = 8  # The pipeline draws pictures whose sides are multiples of this number.


class UnclipDecoder:
    """A Stable unCLIP pipeline on one device."""

    def __init__(self, pipeline: Any, device: str = "cpu") -> None:
        self._pipeline = pipeline.to(device)
        self._max_noise_level = len(pipeline.image_noising_scheduler.betas) - 1
        unet = pipeline.unet.config
        side = unet.sample_size * pipeline.vae_scale_factor
        self.device = device
        # The U-Net's input is the embedding and an equally long encoding of its noise level.
        self.embed_dim = unet.projection_class_embeddings_input_dim // 2
        self.defaults = PictureSettings(side, side, STEPS, GUIDANCE, 0)
        pipeline.set_progress_bar_config(disable=True)

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> "UnclipDecoder":
        """Load a pipeline from its folder. Loads only safetensors, and downloads nothing.

        Raises ConfigError: when the folder is not such a pipeline, or diffusers is not installed.
        """
        try:
            from diffusers import StableUnCLIPImg2ImgPipeline
        except ImportError:
            raise ConfigError(
                f"{folder}: a diffusers pipeline needs the extra images: "
                "pip install 'bindserve[images]'"
            ) from None
        dtype = torch.float16 if device.startswith("cuda") else torch.float32
        try:
            pipeline = StableUnCLIPImg2ImgPipeline.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=dtype
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{folder}: not a Stable unCLIP pipeline: {error}") from None
        return cls(pipeline, device)

    def check(self, settings: PictureSettings) -> None:
        if settings.width % MULTIPLE or settings.height % MULTIPLE:
            raise SettingsError(f"width and height must be multiples of {MULTIPLE}")
        if settings.noise_level > self._max_noise_level:
            raise SettingsError(f"noise_level must be at most {self._max_noise_level}")

    def draw(
        self,
        embeddings: Vector,
        prompts: Sequence[str],
        seeds: Sequence[int],
        settings: PictureSettings,
        on_step: Callable[[], None],
    ) -> Pixels:
        # Generators run on the CPU, so that a seed gives the same noise on every device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        dtype = self._pipeline.unet.dtype
        pictures = self._pipeline(
            prompt=list(prompts),
            image_embeds=torch.from_numpy(embeddings).to(self.device, dtype),
            generator=generators,
            width=settings.width,
            height=settings.height,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            noise_level=settings.noise_level,
            output_type="np",
            callback=lambda *_: on_step(),
        ).images
        pixels: Pixels = np.rint(pictures * 255).astype(np.uint8)
        return pixels
