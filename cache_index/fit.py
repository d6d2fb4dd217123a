"""Fit: checks whether a cache suits a model. The manifest of the cache states the width of its
vectors and their encoder, and the model requires both. This module does not depend on the model's
code.
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

        A manifest without an encoder, for example that of an imported index, only causes a warning.
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
