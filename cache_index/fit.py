"""Does a cache belong to a model? By the width of its vectors and the encoder that they come from.

Wherever the cache is: its manifest says both. Knows nothing of models but what they ask for.
"""

import logging
from dataclasses import dataclass, field

from cache_index.errors import CacheError
from cache_index.manifest import Encoder, Manifest, check_encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fit:
    """What a model asks of a cache."""

    dimension: int
    encoder: Encoder = field(default_factory=dict)  # empty: the model does not know its own

    def check(self, where: object, manifest: Manifest) -> None:
        """CacheError, naming `where` the cache is. One that does not say which encoder it comes
        from is let in with a warning: imported indexes do not know."""
        if manifest.dimension != self.dimension:
            raise CacheError(
                f"{where}: holds vectors of {manifest.dimension} numbers, the model's "
                f"embeddings have {self.dimension}; build it with this model's encoders"
            )
        if self.told_by(manifest):
            check_encoder(str(where), manifest, self.encoder)
        elif self.encoder:
            logger.warning("%s does not say which encoder its features come from", where)

    def told_by(self, manifest: Manifest) -> bool:
        """Whether the cache says which encoder it comes from, and the model which it has."""
        return bool(self.encoder) and self.encoder.keys() <= manifest.encoder.keys()
