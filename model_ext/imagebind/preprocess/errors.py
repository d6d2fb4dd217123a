"""The error of preprocessing, whose message is sent to the client."""


class DecodeError(Exception):
    """The bytes are damaged, of an unsupported format, or beyond a limit.

    The message is a fixed text of this package, possibly with numbers. It never contains a
    decoder's message, because those have leaked paths and memory addresses in other projects.
    """
