"""The error of conversion."""


class ConvertError(ValueError):
    """Raised when a source file cannot be converted. The message names the file, and the tensor or
    key.
    """
