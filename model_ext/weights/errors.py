"""The error of conversion."""


class ConvertError(ValueError):
    """A source file cannot be converted; the message names the file, and the tensor or key."""
