"""Reject settings that the Ray deployment does not support. Depends on neither Ray nor vLLM."""

from model_ext.config import has_language_model, read_document
from model_ext.errors import ConfigError
from server.settings import Settings


def check_settings(settings: Settings) -> None:
    """Raises ConfigError: when the model folder or a setting works only with `bindserve serve`."""
    if settings.weaviate is not None:
        raise ConfigError("the setting weaviate is not available with Ray: use bindserve serve")
    if not has_language_model(read_document(settings.model)):
        raise ConfigError(
            f"{settings.model} has encoders only, which Ray does not serve: use bindserve serve"
        )
