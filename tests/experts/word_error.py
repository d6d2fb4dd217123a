"""Measure the word error rate of the speech expert on synthesized sentences.

    python -m tests.experts.word_error --model FOLDER --sentences 200 --voices hibari en-us en-gb

`hibari` is the voice of the side model `voice`; other names are voices of espeak-ng.
"""

import argparse
import io
import random
import subprocess
import time

import numpy as np
import soundfile

from model_ext import voice
from model_ext.experts.speech import load
from model_ext.experts.texts import spoken
from model_ext.imagebind.preprocess.speech import Samples, SpeechSamples
from model_ext.side import SideData, Task
from tests.experts.texts import errors, sentence, words


class Voices:
    def __init__(self) -> None:
        self._hibari = voice.load()

    def samples(self, name: str, text: str) -> Samples:
        if name == "hibari":
            (result,) = self._hibari.run([Task(SideData({"text": text, "speed": 1.0}))])
            sound, rate = np.asarray(result.arrays["samples"])[:, None], result.document["rate"]
        else:
            command = ["espeak-ng", "-v", name, "-s", "150", "--stdout", text]
            wav = subprocess.run(command, check=True, capture_output=True).stdout
            sound, rate = soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)
        speech = SpeechSamples(rate)
        return np.concatenate([speech.add(sound), speech.end()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--voices", nargs="+", default=["hibari"])
    options = parser.parse_args()
    speech, voices = load(options.model, device="cpu", threads=1), Voices()
    started = time.process_time()
    for name in options.voices:
        choose = random.Random(name)
        wrong = count = 0
        for _ in range(options.sentences // len(options.voices)):
            text = sentence(choose)
            task = Task(SideData({"language": "en"}, {"samples": voices.samples(name, text)}))
            (result,) = speech.run([task])
            wrong += errors(words(text), words(normalized(spoken(result.document))))
            count += len(words(text))
        print(f"{name:16} {wrong / count:6.1%} word error rate on {count} words")
    print(f"{time.process_time() - started:.0f} s of CPU time")


def normalized(text: str) -> str:
    """Replace digits by words, because Whisper sometimes writes numbers as digits."""
    digits = {"2": "two", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven"}
    digits |= {"8": "eight", "9": "nine", "10": "ten", "11": "eleven", "12": "twelve"}
    return " ".join(digits.get(word, word) for word in words(text))


if __name__ == "__main__":
    main()
