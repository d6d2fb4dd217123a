"""Fit: whether a cache belongs to a model, by the width of its vectors and their encoder.

Both are in the manifest, wherever the cache is. Does not depend on the model's code.
"""

import logging
from dataclasses import dataclass, field

from cache_index.errors import CacheError
from cache_index.manifest import EncoderIdentity, Manifest, check_encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fit:
    """A model's requirements of a cache."""

    dimension: int
    encoder: EncoderIdentity = field(default_factory=dict)  # empty: the model does not know its own

    def check(self, where: object, manifest: Manifest) -> None:
        """Check a manifest. `where` is the cache's place, for messages.

        A cache without the encoder in its manifest passes with a warning: imported indexes have
        none.
        Raises CacheError: when the width or the encoder differs.
        """
        if manifest.dimension != self.dimension:
            raise CacheError(
                f"{where}: holds vectors of {manifest.dimension} numbers, the model's "
                f"embeddings have {self.dimension}; build it with this model's encoders"
            )
        if self.can_verify(manifest):
            check_encoder(str(where), manifest, self.encoder)
        elif self.encoder:
            logger.warning("%s does not say which encoder its features come from", where)

    def can_verify(self, manifest: Manifest) -> bool:
        """Whether both the manifest and the model name their encoder."""
        return bool(self.encoder) and self.encoder.keys() <= manifest.encoder.keys()
