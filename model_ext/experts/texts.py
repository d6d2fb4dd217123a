"""The text that an expert's result adds to the prompt. Imports none of the experts' libraries."""

from typing import Any

Json = dict[str, Any]

# A segment with a higher ratio of its length to its compressed length repeats itself. This is
# Whisper's own threshold.
MAX_COMPRESSION = 2.4
# Whisper's threshold for segments without speech. Such a segment is kept if its tokens are likely.
MAX_NO_SPEECH, MIN_LOGPROB = 0.6, -0.5


def spoken(result: Json) -> str:
    """The text of a transcript, without segments that are probably invented."""
    texts = [segment["text"].strip() for segment in result["segments"] if not is_invented(segment)]
    return " ".join(text for text in texts if any(map(str.isalnum, text)))


def is_invented(segment: Json) -> bool:
    """Whether Whisper probably wrote this segment about silence or music."""
    silent = segment["no_speech_prob"] > MAX_NO_SPEECH and segment["avg_logprob"] < MIN_LOGPROB
    return bool(silent or segment["compression_ratio"] > MAX_COMPRESSION)


def written(result: Json) -> str:
    """The text in pictures, one line per line."""
    return "\n".join(result["lines"])
