"""The sizes of the encoders' inputs. Defaults are those of the released model."""

from dataclasses import dataclass
from typing import Any, Self

from model_ext.imagebind.config import ImageBindConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessConfig:
    image_size: int = 224
    frames: int = 2  # number of frames of a video clip
    mel_bins: int = 128
    target_length: int = 204  # number of spectrogram frames
    context_length: int = 77
    depth_size: int = 224
    thermal_size: int = 224
    imu_channels: int = 6
    imu_steps: int = 2000
    min_points: int = 32
    # clouds are resampled to this number of points; None: they are not resampled
    points: int | None = None

    @classmethod
    def of(cls, model: ImageBindConfig) -> Self:
        """Take the sizes from a model's configuration. Modalities that the model lacks keep the
        defaults.
        """
        sizes: dict[str, Any] = {}
        if model.vision:
            sizes |= {"image_size": model.vision.image_size, "frames": model.vision.frames}
        if model.audio:
            sizes |= {"mel_bins": model.audio.mel_bins}
            sizes |= {"target_length": model.audio.target_length}
        if model.text:
            sizes |= {"context_length": model.text.context_length}
        if model.depth:
            sizes |= {"depth_size": model.depth.image_size}
        if model.thermal:
            sizes |= {"thermal_size": model.thermal.image_size}
        if model.imu:
            sizes |= {"imu_channels": model.imu.channels, "imu_steps": model.imu.steps}
        if model.point:
            sizes |= {"min_points": model.point.group_size, "points": model.point.points}
        return cls(**sizes)
