"""ImageBind: tensors of any modality -> embeddings in one space.

This module combines the encoders, averages over clips, and reads and writes the folder of the
encoders. It does not decode files, and does not depend on the LLM. Shapes: B samples, S clips of a
sample, D embedding.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model_ext.errors import ConfigError
from model_ext.imagebind.config import ImageBindConfig
from model_ext.imagebind.encoders import Encoder, PointEncoder, build

CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"


class TensorError(ValueError):
    """Raised when tensors are missing, unexpected or of a wrong shape. The message names them."""

    def __init__(self, problem: str, names: list[str]) -> None:
        shown = ", ".join(sorted(names)[:8])
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        super().__init__(f"{problem}: {shown}{more}")


class ImageBind(nn.Module):
    """One encoder per modality. Inputs, with a leading batch axis B:

    vision   (B, 3, 224, 224), or clips (B, S, 3, 2, 224, 224) as video frames
    text     (B, 77) int64
    audio    clips (B, S, 1, 128, 204), or (B, 1, 128, 204)
    depth    (B, 1, 224, 224)
    thermal  (B, 1, 224, 224)
    imu      (B, 6, 2000)
    point    (B, N, 3)

    Inputs other than text may have any float dtype: `prepare` casts them to the weights' dtype.
    Results are float32.
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
        """Compute the head's output (B, D), averaged over clips, for image generation (unCLIP)."""
        return self._clip_mean(modality, self.prepare(modality, inputs), post=False)

    def embed(self, modality: str, inputs: Tensor) -> Tensor:
        """Compute the embedding (B, D) with the length of the logit scale, averaged over clips.

        The vectors of clips have different directions, so that their mean is shorter than the
        scale.
        """
        return self._clip_mean(modality, self.prepare(modality, inputs), post=True)

    def unit(self, modality: str, inputs: Tensor) -> Tensor:
        """Compute the embedding (B, D) with length 1, the vector that conditions the LLM."""
        return self.unit_of(modality, self.prepare(modality, inputs))

    def prepare(self, modality: str, inputs: Tensor) -> tuple[Tensor, ...]:
        """Convert inputs to the arguments of the encoder, with the same leading axis B."""
        return self.encoder(modality).prepare(inputs)

    def unit_of(self, modality: str, prepared: tuple[Tensor, ...]) -> Tensor:
        """Compute the embedding (B, D) with length 1 from the result of `prepare`."""
        return self.unit_and_length_of(modality, prepared)[:, :-1]

    def unit_and_length(self, modality: str, inputs: Tensor) -> Tensor:
        """Compute the embedding with length 1 and, as the last column, its original length.

        Returns (B, D + 1).
        """
        return self.unit_and_length_of(modality, self.prepare(modality, inputs))

    def unit_and_length_of(self, modality: str, prepared: tuple[Tensor, ...]) -> Tensor:
        """Compute the embedding and its length (B, D + 1) from the result of `prepare`.

        The operations depend only on the shapes of the inputs, so that a CUDA graph can contain
        them.
        """
        embedding = self._clip_mean(modality, prepared, post=True)
        length = embedding.norm(dim=-1, keepdim=True)
        return torch.cat([embedding / length.clamp_min(1e-12), length], dim=-1)

    def _clip_mean(self, modality: str, prepared: tuple[Tensor, ...], *, post: bool) -> Tensor:
        encoder = self.encoder(modality)
        clips = _clips(modality, prepared[0])  # (B, S), or None if samples have no clips
        vectors: Tensor = encoder(*(t.flatten(0, 1) if clips else t for t in prepared)).float()
        if post:
            vectors = encoder.post(vectors)
        return vectors.view(*clips, -1).mean(1) if clips else vectors

    def cast(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Self:
        """Move each weight to the device and cast it in place.

        Logit scales, and modules of the point trunk that have `keep_float32`, stay in float32,
        because half precision changes their results too much.
        """
        for module in self.modules():
            own = torch.float32 if getattr(module, "keep_float32", False) else dtype
            for name, tensor in (
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ):
                moved = tensor.data if device is None else tensor.data.to(device)
                tensor.data = moved.to(torch.float32 if name == "log_logit_scale" else own)
        return self

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        config: ImageBindConfig,
        *,
        spell: Callable[[str], str] = str,
    ) -> Self:
        """Build a model that uses `tensors` without copying them. Their names are those of this
        package.

        `spell` formats a name for error messages.
        Raises TensorError: when a tensor is missing, unexpected or of another shape.
        """
        with torch.device("meta"):
            model = cls(config)
        expected = model.state_dict()
        if missing := [spell(name) for name in expected if name not in tensors]:
            raise TensorError("missing ImageBind tensors", missing)
        if unexpected := [spell(name) for name in tensors if name not in expected]:
            raise TensorError("ImageBind tensors of a modality that is not configured", unexpected)
        if wrong := [
            f"{spell(name)} is {tuple(tensors[name].shape)}, configured {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if tensors[name].shape != tensor.shape
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
        """Read a folder that `save` wrote.

        Raises FileNotFoundError, ConfigError, TensorError: the message names the file or tensor.
        """
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


def _clips(modality: str, inputs: Tensor) -> tuple[int, int] | None:
    """Return (B, S) if the inputs have a clip axis, i.e. at least 5 axes (B, S, ...), else None."""
    has_clips = inputs.ndim >= 5 and modality != "point"
    return (inputs.shape[0], inputs.shape[1]) if has_clips else None
