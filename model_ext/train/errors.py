"""The error that training raises for invalid files and settings."""


class TrainError(Exception):
    """A file or a setting is invalid. The message names it and the correction."""
