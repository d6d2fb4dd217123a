"""Reject settings that the Ray deployment does not support. Depends on neither Ray nor vLLM."""

from model_ext.errors import ConfigError
from server.settings import Settings


def check_settings(settings: Settings) -> None:
    """Raises ConfigError: when only `bindserve serve` supports a setting."""
    if settings.weaviate is not None:
        raise ConfigError("the setting weaviate is not available with Ray: use bindserve serve")
