"""The error of a model's configuration.

This module imports nothing, so every process can import it cheaply.
"""


class ConfigError(ValueError):
    """Raised when config.json, or the file with the encoders' sizes, is not valid. The message
    names the key.
    """
