"""The error of invalid files and settings in training."""


class TrainError(Exception):
    """The message names the file or the key, and the correction."""
