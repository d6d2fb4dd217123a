"""Synthesise words with the voices of espeak-ng.

Needs the program `espeak-ng` (Debian package `espeak-ng`). This module does not depend on the
training and test splits.
"""

import random
import subprocess
from pathlib import Path


def speak(word: str, voice: str, accent: str, seed: str, path: Path) -> None:
    """Write a 22 kHz WAV file. The seed determines rate and pitch."""
    draw = random.Random(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    command = ["espeak-ng", "-v", f"{accent}+{voice}", "-w", str(path)]
    command += ["-s", str(draw.randint(120, 180)), "-p", str(draw.randint(35, 65))]
    subprocess.run([*command, "--", word], check=True, timeout=30)
