"""The error of invalid files and settings in training."""


class TrainError(Exception):
    """A file or a setting is invalid. The message names it and the correction."""
