"""Turn an expert's result into the text that the prompt gets. This module imports none of the
experts' libraries.
"""

from typing import Any

Json = dict[str, Any]

# If a segment's length divided by its compressed length is higher, the segment repeats itself.
# Whisper uses the same threshold.
MAX_COMPRESSION = 2.4
# Whisper's threshold for segments without speech. A segment above it is kept only if Whisper gave
# its tokens a high probability.
MAX_NO_SPEECH, MIN_LOGPROB = 0.6, -0.5


def spoken(result: Json) -> str:
    """The text of a transcript, without segments that Whisper probably invented."""
    texts = [segment["text"].strip() for segment in result["segments"] if not is_invented(segment)]
    return " ".join(text for text in texts if any(map(str.isalnum, text)))


def is_invented(segment: Json) -> bool:
    """Whether Whisper probably invented this segment from silence or music."""
    silent = segment["no_speech_prob"] > MAX_NO_SPEECH and segment["avg_logprob"] < MIN_LOGPROB
    return bool(silent or segment["compression_ratio"] > MAX_COMPRESSION)


def written(result: Json) -> str:
    """The text that was read in pictures. Each line of text is one line of the prompt."""
    return "\n".join(result["lines"])


def labelled(result: Json) -> str:
    """The labels of the things in pictures, on one line."""
    return ", ".join(result["labels"])
