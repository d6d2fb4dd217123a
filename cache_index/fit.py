"""Fit: checks whether the vectors of a cache have the width and the encoder that a model requires.

The cache's manifest states both. This module does not depend on the model's code.
"""

import logging
from dataclasses import dataclass, field

from cache_index.errors import CacheError
from cache_index.manifest import EncoderIdentity, Manifest, check_encoder

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fit:
    """The width and the encoder that a model requires of a cache."""

    dimension: int
    encoder: EncoderIdentity = field(default_factory=dict)  # empty if the model names no encoder

    def check(self, where: object, manifest: Manifest) -> None:
        """Check a manifest. `where` is the cache's path or URL, for messages.

        A manifest that names no encoder, as after the import of an index, only causes a warning.
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
        """Whether the manifest and the model both name an encoder."""
        return bool(self.encoder) and self.encoder.keys() <= manifest.encoder.keys()
