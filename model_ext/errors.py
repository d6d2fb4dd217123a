"""The error of a model's configuration.

This module imports nothing, so every process can import it cheaply.
"""


class ConfigError(ValueError):
    """A config.json or a sizes file that is not valid; the message names the key."""
