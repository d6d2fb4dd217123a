"""The error of preprocessing, whose message is sent to the client."""


class DecodeError(Exception):
    """The file is damaged, has an unsupported format, or exceeds a limit.

    The message is a fixed text of this package, possibly with numbers. It never contains the
    message of a decoder library, because such messages can contain paths and memory addresses.
    """
