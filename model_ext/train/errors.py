"""What goes wrong in training through the user's files or settings."""


class TrainError(Exception):
    """The message names the file or the key, and says what to do."""
