"""Build the pictures, sounds, shapes and words of every split, and the lists of their files.

    python -m model_ext.demo.build_data --icons build/icons/node_modules --out build/demo/data

Each list `<split>.jsonl` has one sample per line: key, modality, and a path or a text. Samples of
one concept have the same key. The same seed gives the same files.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from PIL import Image
from tqdm import tqdm

from model_ext.demo.clips import write_clip
from model_ext.demo.pictures import SIZE, IconSet, things
from model_ext.demo.shapes import extrude
from model_ext.demo.sounds import speak
from model_ext.demo.splits import ACCENTS, CONCEPTS, GLYPHS, SPLITS, STYLES, VOICES, Split

SEED = 0
PICTURE_SIDE = 320  # Width and height of the validation and test pictures in pixels.
# The encoders are also trained on icons whose name occurs in at least this many styles.
MIN_STYLES = 4
# the sampling weight of the 64 concepts; all other icon names have the weight 1
CONCEPT_WEIGHT = 60.0
WORDINGS = ("{}", "a {}", "a picture of a {}", "the {}", "an icon of a {}")

MEDIA = {"image", "audio", "point", "video"}
LISTS = Path(__file__).with_name("lists")

Sample = dict[str, Any]
Job = tuple[Sample, Callable[[Path], None]]  # a sample, and the function that writes its file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--icons", type=Path, required=True, help="node_modules of package.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=sorted(MEDIA))
    parser.add_argument("--splits", nargs="*", default=SPLITS, choices=SPLITS)
    options = parser.parse_args()
    for split in options.splits:
        sets = [IconSet.open(options.icons, style) for style in STYLES[split]]
        names = CONCEPTS
        if split == "train":
            names += tuple(name for name in things(sets, MIN_STYLES) if name not in CONCEPTS)
        jobs = [
            *pictures(sets, names, split),
            *shapes(sets, names),
            *sounds(split),
            *(clips(sets, split) if split != "train" else ()),
        ]
        jobs = [job for job in jobs if job[0]["modality"] in options.only]
        with ThreadPoolExecutor(2) as pool, (options.out / f"{split}.jsonl").open("w") as lines:
            results = pool.map(lambda job: make(job, options.out), jobs)
            for (sample, _), _ in zip(
                jobs, tqdm(results, split, len(jobs), mininterval=5), strict=True
            ):
                write(lines, sample)
            for sample in words(names):
                write(lines, sample)
        if set(options.only) >= MEDIA:
            LISTS.joinpath(f"{split}.txt").write_text(file_list(sample for sample, _ in jobs))


def file_list(samples: Iterable[Sample]) -> str:
    """Write one line per folder: its name and the names of its files. The lists are committed."""
    folders = defaultdict[str, list[str]](list)
    for sample in samples:
        folder, name = sample["path"].rsplit("/", 1)
        folders[folder].append(name)
    return "".join(f"{folder}: {' '.join(names)}\n" for folder, names in folders.items())


def make(job: Job, out: Path) -> None:
    """Write a sample's file unless it exists, so that an interrupted build can be resumed."""
    sample, write_file = job
    path = out / sample["path"]
    if not path.is_file():
        temporary = path.with_stem(path.stem + ".new")
        write_file(temporary)
        temporary.replace(path)


def pictures(sets: list[IconSet], names: Iterable[str], split: Split) -> Iterator[Job]:
    for icons in sets:
        for name in names:
            if name in icons.bodies:
                path = f"image/{icons.style}/{name}.png"
                sample: Sample = {"key": name, "modality": "image", "path": path}
                if icons.style in GLYPHS:
                    sample["anchor"] = False
                yield sample, partial(picture, icons, name, split)


def shapes(sets: list[IconSet], names: Iterable[str]) -> Iterator[Job]:
    for icons in sets:
        for name in names:
            if name in icons.bodies:
                path = f"point/{icons.style}/{name}.npy"
                sample = {"key": name, "modality": "point", "path": path}
                yield sample, partial(shape, icons, name)


def sounds(split: Split) -> Iterator[Job]:
    """Yield one sound (two in the training split) for each voice and word. Accents alternate."""
    takes = 2 if split == "train" else 1
    for number, voice in enumerate(VOICES[split]):
        for concept in CONCEPTS:
            for take in range(takes):
                accent = ACCENTS[(number + 2 * take) % len(ACCENTS)]
                path = f"audio/{voice}/{concept}-{take}.wav"
                sample = {"key": concept, "modality": "audio", "path": path}
                yield sample, partial(speak, concept, voice, accent, f"{SEED}/{path}")


def clips(sets: list[IconSet], split: Split) -> Iterator[Job]:
    for icons in sets:
        for concept in CONCEPTS:
            path = f"video/{icons.style}/{concept}.mp4"
            sample = {"key": concept, "modality": "video", "path": path}
            yield sample, partial(clip, icons, concept, f"{split}/{path}")


def words(names: Iterable[str]) -> Iterator[Sample]:
    for name in names:
        for wording in WORDINGS:
            text = wording.format(name.replace("-", " "))
            yield {"key": name, "modality": "text", "text": text}


def picture(icons: IconSet, name: str, split: Split, path: Path) -> None:
    """Write a picture. Training pictures are transparent, because training varies the background.
    Others are on white.
    """
    image = icons.render(name, PICTURE_SIDE if split != "train" else SIZE)
    if split != "train":
        background = Image.new("RGB", image.size, "white")
        background.paste(image, mask=image)
        image = background
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def clip(icons: IconSet, name: str, seed: str, path: Path) -> None:
    write_clip(icons.render(name, PICTURE_SIDE), path, rng_of(seed))


def shape(icons: IconSet, name: str, path: Path) -> None:
    mask = np.asarray(icons.render(name))[..., 3] > 127
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, extrude(mask, rng_of(f"{icons.style}/{name}")))


def rng_of(name: str) -> np.random.Generator:
    """Return a random generator whose state depends only on SEED and on the file's name."""
    return np.random.default_rng([SEED, *name.encode()])


def write(lines: TextIO, sample: Sample) -> None:
    if sample["key"] in CONCEPTS:
        sample = sample | {"weight": CONCEPT_WEIGHT}
    lines.write(json.dumps(sample) + "\n")


if __name__ == "__main__":
    main()
