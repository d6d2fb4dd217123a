"""Read the fields of a content part that control how its file is read, for example `channels`."""

from dataclasses import replace
from typing import Any, get_args

from model_ext.imagebind.preprocess.options import Channels, ReadOptions
from server.errors import BadRequest

Json = dict[str, Any]

# Field of a content part -> modalities to which it applies. `channels` also applies to videos,
# because a file with a video format may contain only sound.
MODALITIES_OF = {
    "channels": ("audio", "video"),
    "sound": ("video",),
    "normalize": ("point",),
    "norm": ("embedding",),
}
MAX_NORM = 1e4


def read_options(part: Json, modality: str, defaults: ReadOptions, param: str) -> ReadOptions:
    """Return the options of a part. For fields that the part lacks, the operator's defaults apply.

    Raises BadRequest: when a field is wrong or does not apply to the modality.
    """
    for field, modalities in MODALITIES_OF.items():
        if part.get(field) is not None and modality not in modalities:
            raise BadRequest(
                f"{field} applies to {' and '.join(modalities)}, and this part is {modality}",
                param=f"{param}.{field}",
            )
    channels, normalize = part.get("channels"), part.get("normalize")
    if channels is not None:
        if channels not in get_args(Channels):
            raise BadRequest(
                f"channels must be one of {', '.join(get_args(Channels))}",
                param=f"{param}.channels",
            )
        defaults = replace(defaults, channels=channels)
    if normalize is not None:
        if not (isinstance(normalize, bool) or normalize == "auto"):
            raise BadRequest('normalize must be true, false or "auto"', param=f"{param}.normalize")
        defaults = replace(defaults, normalize=normalize)
    return defaults


def sound_weight(part: Json, param: str) -> float | None:
    """Return the weight of a video's sound track, or None if the request does not add the sound
    track as an attachment.

    `read_options` rejects the field for other modalities.
    """
    sound = part.get("sound")
    if sound is None:
        return None
    if not isinstance(sound, dict) or sound.keys() - {"weight"}:
        raise BadRequest('sound must be an object like {"weight": 0.5}', param=f"{param}.sound")
    return read_weight(sound, f"{param}.sound")


def read_weight(part: Json, param: str) -> float:
    weight = part.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise BadRequest("weight must be a number", param=f"{param}.weight")
    if not abs(weight) <= 1e6:  # this form of the condition also rejects NaN
        raise BadRequest("weight must be between -1e6 and 1e6", param=f"{param}.weight")
    return float(weight)


def read_norm(part: Json, param: str) -> float | None:
    """Return the field `norm` of an embedding that the client computed: the length of the encoder's
    output before it was scaled to length 1. Returns None if the part lacks the field.
    """
    norm = part.get("norm")
    if norm is None:
        return None
    if isinstance(norm, bool) or not isinstance(norm, int | float) or not 0 < norm <= MAX_NORM:
        raise BadRequest(
            f"norm must be a number above 0, at most {MAX_NORM:g}", param=f"{param}.norm"
        )
    return float(norm)
