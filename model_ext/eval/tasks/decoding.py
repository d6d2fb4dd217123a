"""The two ways to decode answers. A table prints which of them was used."""

from typing import Literal

Decoding = Literal["released", "greedy"]
# "released": the released model's defaults, with a fixed seed. "greedy": always the most probable
# token.
PARAMETERS: dict[Decoding, dict[str, float | int]] = {
    "released": {"temperature": 0.1, "top_p": 0.75, "seed": 0},
    "greedy": {"temperature": 0.0},
}
