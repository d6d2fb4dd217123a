"""Count the tokens of a sample, which measure its cost: a video has 15 times as many as an image.

The size of a batch is limited in tokens.

Shapes: S clips of a sample, N points of a cloud.
"""

from collections.abc import Sequence
from math import prod

from model_ext.imagebind.config import (
    AudioConfig,
    ImageBindConfig,
    ImuConfig,
    MapConfig,
    PointConfig,
    TextConfig,
    VisionConfig,
)

VIDEO_CLIPS = 15  # number of encoded parts of a video: five clips with three crops each
AUDIO_CLIPS = 3
USUAL_POINTS = 8192


def clip_tokens(config: ImageBindConfig, modality: str) -> int:
    """Return the number of tokens of one clip, or of a sample without clips, including the class
    token.
    """
    section = getattr(config, modality)
    match section:
        case TextConfig():
            return section.context_length
        case AudioConfig():
            return prod(section.grid) + 1
        case ImuConfig():
            return section.steps // section.kernel_size + 1
        case PointConfig():
            return section.groups + 1
        case VisionConfig() | MapConfig():
            return section.grid**2 + 1
    raise ValueError(f"no {modality!r} encoder; this model has {', '.join(config.modalities)}")


def sample_tokens(config: ImageBindConfig, modality: str, shape: Sequence[int]) -> int:
    """Return the number of tokens of a sample: clips x tokens of a clip. `shape`: without batch
    axis.
    """
    clips = shape[0] if len(shape) >= 4 else 1
    return clips * clip_tokens(config, modality)


def max_samples(config: ImageBindConfig, modality: str, shape: Sequence[int], tokens: int) -> int:
    """Return how many samples of this shape fit into a batch of at most `tokens` tokens, but at
    least 1.
    """
    return max(1, tokens // sample_tokens(config, modality, shape))


def sample_shapes(config: ImageBindConfig) -> list[tuple[str, tuple[int, ...]]]:
    """Yield (encoder, shape of a preprocessed file) for the warm-up.

    Assumes clouds of 8,192 points if the model does not resample clouds.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []
    if vision := config.vision:
        square = (vision.image_size, vision.image_size)
        shapes.append(("vision", (vision.channels, *square)))
        shapes.append(("vision", (VIDEO_CLIPS, vision.channels, vision.frames, *square)))
    if text := config.text:
        shapes.append(("text", (text.context_length,)))
    if audio := config.audio:
        shapes.append(("audio", (AUDIO_CLIPS, 1, audio.mel_bins, audio.target_length)))
    for name, section in (("depth", config.depth), ("thermal", config.thermal)):
        if section:
            shapes.append((name, (1, section.image_size, section.image_size)))
    if imu := config.imu:
        shapes.append(("imu", (imu.channels, imu.steps)))
    if point := config.point:
        shapes.append(("point", (point.points or USUAL_POINTS, 3)))
    return shapes
