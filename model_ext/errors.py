"""The error of a model's configuration. Imports nothing, so every process can use it."""


class ConfigError(ValueError):
    """A config.json or a sizes file that is not valid; the message names the key."""
