"""The one error of preprocessing. Its text is shown to whoever sent the bytes."""


class DecodeError(Exception):
    """The bytes cannot be used.

    The message is a fixed text of ours, at most with numbers of ours: never a decoder's own words,
    which have leaked paths and memory addresses elsewhere.
    """
