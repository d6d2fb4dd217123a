"""ImageBind: tensors of any of its modalities -> vectors in one space.

Joins the encoders, the clips rule and the folder format. Knows neither bytes nor the LLM.
Shapes: B samples, S clips of a sample, D embedding.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.errors import ConfigError
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.encoders import Encoder, PointEncoder, build

CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"


class TensorError(ValueError):
    """Tensors are missing, left over or of another shape; the message names them."""

    def __init__(self, what: str, names: list[str]) -> None:
        shown = ", ".join(sorted(names)[:8])
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        super().__init__(f"{what}: {shown}{more}")


class ImageBind(nn.Module):
    """Inputs per modality, with a leading batch axis B:

    vision   (B, 3, 224, 224), or clips (B, S, 3, 2, 224, 224) as video frames
    text     (B, 77) int64
    audio    clips (B, S, 1, 128, 204), or (B, 1, 128, 204)
    depth    (B, 1, 224, 224); thermal alike
    imu      (B, 6, 2000)
    point    (B, N, 3)

    Floats may have any dtype: they are cast to the weights' own. Results are float32.
    """

    def __init__(self, config: ImageBindConfig) -> None:
        super().__init__()
        self.config = config
        for modality in config.modalities:
            section = getattr(config, modality)
            self.add_module(modality, build(modality, section, config.embed_dim))

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.config.modalities

    def encoder(self, modality: str) -> Encoder | PointEncoder:
        if modality not in self.modalities:
            raise ValueError(
                f"no {modality!r} encoder; this model has {', '.join(self.modalities)}"
            )
        encoder: Encoder | PointEncoder = getattr(self, modality)
        return encoder

    def prenorm(self, modality: str, inputs: Tensor) -> Tensor:
        """The head's output (B, D), averaged over clips. For image generation (unCLIP)."""
        return self._clip_mean(modality, inputs, post=False)

    def embed(self, modality: str, inputs: Tensor) -> Tensor:
        """ImageBind's embedding (B, D): unit length times the logit scale, averaged over clips.

        The mean of several clips is therefore shorter.
        """
        return self._clip_mean(modality, inputs, post=True)

    def unit(self, modality: str, inputs: Tensor) -> Tensor:
        """`embed` brought (back) to unit length (B, D): what conditions the LLM."""
        return F.normalize(self.embed(modality, inputs), dim=-1, eps=1e-12)

    def _clip_mean(self, modality: str, inputs: Tensor, *, post: bool) -> Tensor:
        encoder = self.encoder(modality)
        samples = inputs.flatten(0, 1) if inputs.ndim >= 5 else inputs  # 5 axes: (B, S, ...)
        if modality == "point":
            samples = samples.float()  # grouping needs float32, whatever the weights are
        elif modality != "text":
            samples = samples.to(encoder.head.proj.weight.dtype)
        vectors: Tensor = encoder(samples).float()
        if post:
            vectors = encoder.post(vectors)
        return vectors.view(*inputs.shape[:2], -1).mean(1) if inputs.ndim >= 5 else vectors

    def cast(self, dtype: torch.dtype) -> Self:
        """Weights to `dtype`, in place; logit scales stay float32 (half precision moves them)."""
        for module in self.modules():
            for name, tensor in (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ):
                if name != "log_logit_scale":
                    tensor.data = tensor.data.to(dtype)
        return self

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        config: ImageBindConfig,
        *,
        spell: Callable[[str], str] = str,
    ) -> Self:
        """Take over `tensors` (our names; no copy). `spell` writes a name for error messages."""
        with torch.device("meta"):
            model = cls(config)
        expected = model.state_dict()
        if missing := [spell(name) for name in expected if name not in tensors]:
            raise TensorError("missing ImageBind tensors", missing)
        if left_over := [spell(name) for name in tensors if name not in expected]:
            raise TensorError("ImageBind tensors of a modality that is not configured", left_over)
        if wrong := [
            f"{spell(name)} is {tuple(tensors[name].shape)}, configured {tuple(wanted.shape)}"
            for name, wanted in expected.items()
            if tensors[name].shape != wanted.shape
        ]:
            raise TensorError("ImageBind tensors do not have the configured shape", wrong)
        model.load_state_dict(tensors, assign=True)
        return model.eval()

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Read what `save` wrote. FileNotFoundError, ConfigError, TensorError: name the culprit."""
        try:
            config = ImageBindConfig.from_json((folder / CONFIG_FILE).read_bytes())
        except ValueError as error:
            raise ConfigError(f"{folder / CONFIG_FILE}: {error}") from None
        try:
            tensors = load_file(folder / TENSORS_FILE, device=str(device))
        except SafetensorError as error:
            raise TensorError(f"{folder / TENSORS_FILE} is damaged", [str(error)]) from None
        return cls.from_tensors(tensors, config).cast(dtype)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(self.config.to_json())
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / TENSORS_FILE, metadata={"format": "pt"})
