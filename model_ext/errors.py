"""The error of a model's configuration.

This module imports nothing, so every process can import it cheaply.
"""


class ConfigError(ValueError):
    """config.json, or the file of the encoders' sizes, is not valid; the message names the key."""
