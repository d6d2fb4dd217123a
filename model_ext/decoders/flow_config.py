"""The sizes and defaults of a flow decoder: the file `config.json` of its folder."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0)]


class FlowConfig(BaseModel):
    """Sizes of the networks of `flow.py`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decoder: Literal["flow"] = "flow"
    embed_dim: Count  # D: length of ImageBind's embedding.
    side: Annotated[int, Field(ge=8, le=64)] = 32  # S: side of a picture in pixels.
    components: Count = 384  # K: number of principal components of a picture.
    width: Count = 448  # W: width of the residual blocks.
    blocks: Count = 3
    condition_width: Count = 128
    # Values for requests that do not set them. Guidance 1 means no guidance.
    steps: Count = 24
    guidance: Annotated[float, Field(ge=1, le=20)] = 2.0
    # The noise from which a picture is drawn is multiplied by this factor. A smaller factor gives
    # clearer pictures, which differ less from seed to seed.
    temperature: Annotated[float, Field(ge=0, le=1)] = 1.0
