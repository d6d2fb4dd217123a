"""The labels that the detector looks for as the expert `objects`: a text file with one per line.

Empty lines and lines that start with # are ignored.
"""

from pathlib import Path

from model_ext.errors import ConfigError

EVERYDAY = Path(__file__).with_name("everyday.txt")  # labels of common things
MAX_LABELS, MAX_CHARACTERS = 1000, 100


def read_labels(path: Path | None) -> tuple[str, ...]:
    """Return the labels of a file without duplicates. `path`: None for the labels of common things.

    Raises OSError. Raises ConfigError: when the file has no labels, too many, or a label that is
    too long.
    """
    path = path or EVERYDAY
    try:
        lines = [" ".join(line.split()) for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text in UTF-8") from None
    labels = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not 1 <= len(labels) <= MAX_LABELS or max(map(len, labels)) > MAX_CHARACTERS:
        raise ConfigError(
            f"{path}: expected 1 to {MAX_LABELS} labels of at most {MAX_CHARACTERS} characters, "
            "one per line"
        )
    return labels
