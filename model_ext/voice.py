"""A voice as a side model: reads English texts aloud with hibari-tts (extra `voice`).

Its model is in its package. A task's document has `text` and `speed`; the result's array `samples`
is (N,) float32 in [-1, 1] at the rate of its document.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from hibari import Hibari

from model_ext.side import Json, SideData, Task, TaskError, stop_if_cancelled

MAX_CHARACTERS = 4096  # as in OpenAI's API
MIN_SPEED, MAX_SPEED = 0.5, 2.0
MAX_PHONEMES = 400  # Phonemes that the model gets at a time; hibari splits at clauses only.
SEED = 0  # The seed of the voice's noise, so that equal texts are equal sounds.


class Voice:
    device, gpu_bytes, max_batch = "cpu", 0, 1

    def __init__(self, reader: Hibari) -> None:
        self._reader = reader

    def kind(self, document: Json) -> Hashable:
        text, speed = document.get("text"), document.get("speed")
        if not isinstance(text, str) or not 0 < len(text) <= MAX_CHARACTERS:
            raise TaskError(f"the text must have 1 to {MAX_CHARACTERS} characters")
        if not isinstance(speed, float) or not MIN_SPEED <= speed <= MAX_SPEED:
            raise TaskError(f"the speed must be from {MIN_SPEED} to {MAX_SPEED}")
        return None

    def run(self, tasks: Sequence[Task]) -> Sequence[SideData]:
        return [self._read(task) for task in tasks]

    def _read(self, task: Task) -> SideData:
        document, noise = task.data.document, np.random.default_rng(SEED)
        parts = [np.zeros(0, np.float32)]
        for sentence in self._reader.phonemize(document["text"]):
            for start in range(0, len(sentence), MAX_PHONEMES):
                stop_if_cancelled([task])
                ids = self._reader.ids(sentence[start : start + MAX_PHONEMES])
                parts.append(self._reader.from_ids(ids, document["speed"], noise))
        samples = np.clip(np.concatenate(parts), -1, 1).astype(np.float32)
        return SideData({"rate": int(self._reader.sample_rate)}, {"samples": samples})


def load(threads: int = 1) -> Voice:
    """Load the voice `heart`, the only one in the package. The others would be downloaded."""
    reader = Hibari(voice="heart", threads=threads)
    reader.phonemize("ready")  # makes hibari load its dictionaries now
    return Voice(reader)
