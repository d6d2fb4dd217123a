"""The error that training raises for invalid files and settings."""


class TrainError(Exception):
    """Raised when a file or a setting is invalid. The message names it and says how to correct
    it.
    """
