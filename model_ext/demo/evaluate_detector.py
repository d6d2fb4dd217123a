"""Measure the detector on composed scenes of a held-out drawing style.

    python -m model_ext.demo.evaluate_detector --detector build/demo/detection/detector
        --data build/demo/data --encoders model_ext/demo/encoders --out build/demo/detection.json

The scenes have drawings of the held-out style: of the concepts, and of other things that no query
names. The table has the mean average precision (mAP) for text queries and for held-out voices, also
for only the concepts whose drawings the detector's training omitted. A baseline takes connected
regions as boxes. The table also has the shares of nouns that grounding flags: among nouns of things
in the scene, and among nouns of absent things.

Shapes: N boxes, Q queries, D embedding.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from model_ext.demo.build_detection import NEVER_BOXED
from model_ext.demo.splits import CONCEPTS
from model_ext.grounding.average_precision import ScoredBox, average_precision
from model_ext.grounding.bind.crops import crops
from model_ext.grounding.bind.detector import BindDetector, scores_of
from model_ext.grounding.detector import Detection, Query
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.image import normalize
from model_ext.train.detector.scenes import Scene, compose
from model_ext.train.detector.textures import HELD_OUT, TEXTURES
from model_ext.train.encoders.embed import embed
from model_ext.train.encoders.samples import Samples, load

SEED = 77
SIDE = 384  # side of a scene in pixels
MAX_DRAWINGS = 6
OVERLAPS = [0.5 + 0.05 * step for step in range(10)]  # The overlaps that COCO uses.
STORED_SIDE = 160  # Side of a stored drawing in pixels.
MAX_REGIONS = 30
MIN_SCORE = 0.01  # Minimum score of a detection. Detections below it do not change the results.
Vectors = dict[str, NDArray[np.float32]]  # concept -> unit embeddings (Q, D)
Names = list[list[str]]  # the name of each box of each scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoders", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoders = ImageBind.from_folder(options.encoders)
    detector = BindDetector.from_folder(options.detector)
    samples = read(options.data / "detection-test.jsonl", encoders, options.out.parent)
    scenes, names = compose_scenes(samples["vision"], options.scenes)
    texts, voices = (embed_queries(encoders, name, samples[name]) for name in ("text", "audio"))
    results = detect(detector, scenes, {"text": texts, "audio": voices})
    baseline = components(detector, encoders, scenes, texts)
    document = {
        "scenes": len(scenes),
        "texts": precision(results["text"], scenes, names),
        "voices": precision(results["audio"], scenes, names),
        "connected components": precision(baseline, scenes, names),
        "nouns": nouns(results["text"], names, detector.threshold),
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document, indent=2))


def read(path: Path, encoders: ImageBind, store: Path) -> dict[str, Samples]:
    sizes = PreprocessConfig.of(encoders.config)
    return load(path, ("vision", "text", "audio"), store / "samples", sizes, STORED_SIDE)


def compose_scenes(drawings: Samples, count: int) -> tuple[list[Scene], Names]:
    """Compose scenes of drawings. Returns them with the name of each box: a concept, or "" for a
    thing that no query names. Half of the scenes have a background that training did not use.
    """
    rng = np.random.default_rng(SEED)
    data = drawings.data.numpy()
    scenes = [
        compose(data, rng, SIDE, MAX_DRAWINGS, HELD_OUT if number % 2 else TEXTURES)
        for number in tqdm(range(count), "compose", mininterval=5)
    ]
    keys = [key if key in CONCEPTS else "" for key in drawings.keys]
    return scenes, [[keys[index] for index in scene.drawings] for scene in scenes]


def embed_queries(encoders: ImageBind, encoder: str, samples: Samples) -> Vectors:
    """Compute the unit embeddings (Q, D) of each concept's queries."""
    vectors = embed(encoders, encoder, samples.data).numpy()
    rows = samples.rows()
    return {concept: vectors[rows[concept]] for concept in CONCEPTS}


@torch.inference_mode()
def detect(
    detector: BindDetector, scenes: Sequence[Scene], queries: dict[str, Vectors]
) -> dict[str, list[dict[str, list[Detection]]]]:
    """Return for each modality and scene the detections of each concept. Each scene uses a random
    voice. Scenes use the texts "{}" and "a {}" in turn.
    """
    rng = np.random.default_rng(SEED)
    results: dict[str, list[dict[str, list[Detection]]]] = defaultdict(list)
    for number, scene in enumerate(tqdm(scenes, "detect", mininterval=5)):
        own = []
        for modality, vectors in queries.items():
            for concept in CONCEPTS:
                takes = vectors[concept]
                row = number % len(takes) if modality == "text" else rng.integers(len(takes))
                own.append(Query(concept, takes[row], modality))
        (detections,) = detector.detect([scene.picture.copy()], [own], MIN_SCORE)
        for modality in queries:
            results[modality].append(
                grouped(
                    (own[each.query].text, each)
                    for each in detections
                    if own[each.query].modality == modality
                )
            )
    return results


def grouped(detections: Iterable[tuple[str, Detection]]) -> dict[str, list[Detection]]:
    groups: dict[str, list[Detection]] = defaultdict(list)
    for concept, each in detections:
        groups[concept].append(each)
    return groups


@torch.inference_mode()
def components(
    detector: BindDetector, encoders: ImageBind, scenes: Sequence[Scene], texts: Vectors
) -> list[dict[str, list[Detection]]]:
    """The baseline, whose boxes are not learned: they are the connected regions that differ from
    the most common color. The model's own picture encoder embeds them.
    """
    wanted = torch.from_numpy(np.stack([texts[concept][0] for concept in CONCEPTS]))
    size = encoders.config.vision.image_size  # type: ignore[union-attr]
    curve = detector.config.calibration["text"]
    results = []
    for scene in tqdm(scenes, "components", mininterval=5):
        boxes = regions(scene.picture)
        detections = []
        if len(boxes):
            picture = normalize(torch.from_numpy(scene.picture.copy()).permute(2, 0, 1))
            cut = crops(picture, torch.from_numpy(boxes), detector.config.margin, size)
            cosines = encoders.unit("vision", cut) @ wanted.T
            scores = scores_of(cosines, torch.ones(len(boxes)), [curve]).tolist()
            for box, row in zip(boxes.tolist(), scores, strict=True):
                corners = (box[0], box[1], box[2], box[3])
                detections += [Detection(q, corners, score) for q, score in enumerate(row)]
        results.append(grouped((CONCEPTS[each.query], each) for each in detections))
    return results


def regions(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the boxes (N, 4) of the largest connected regions that differ from the background."""
    coarse = (picture // 32).reshape(-1, 3)
    colors, counts = np.unique(coarse, axis=0, return_counts=True)
    background = colors[counts.argmax()].astype(int) * 32 + 16
    mask = (np.abs(picture.astype(int) - background).max(2) > 40).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    stats = stats[1:][stats[1:, 4] > 100]
    stats = stats[stats[:, 4].argsort()[::-1][:MAX_REGIONS]]
    corners = stats[:, :2]
    boxes: NDArray[np.float32] = np.hstack([corners, corners + stats[:, 2:4]]).astype(np.float32)
    return boxes


def precision(
    results: Sequence[dict[str, list[Detection]]], scenes: Sequence[Scene], names: Names
) -> dict[str, float]:
    """Compute the mean average precision of the concepts: at overlap 0.5, at overlap 0.5 for the
    concepts in NEVER_BOXED only, and as the mean over overlaps from 0.5 to 0.95.
    """
    values: dict[float, dict[str, float]] = {minimum: {} for minimum in OVERLAPS}
    for concept in CONCEPTS:
        truth = [
            ScoredBox(number, tuple(box))
            for number, (scene, own) in enumerate(zip(scenes, names, strict=True))
            for box, name in zip(scene.boxes.tolist(), own, strict=True)
            if name == concept
        ]
        if not truth:
            continue
        detections = [
            ScoredBox(number, each.box, each.score)
            for number, groups in enumerate(results)
            for each in groups.get(concept, ())
        ]
        for minimum, by_concept in values.items():
            by_concept[concept] = average_precision(detections, truth, minimum)
    first = values[OVERLAPS[0]]
    unseen = [value for concept, value in first.items() if concept in NEVER_BOXED]
    return {
        "mAP50": mean(list(first.values())),
        "mAP50 of things that were never boxed": mean(unseen),
        "mAP50:95": mean([mean(list(each.values())) for each in values.values()]),
    }


def nouns(
    results: Sequence[dict[str, list[Detection]]], names: Names, threshold: float
) -> dict[str, float]:
    """Compute which share of nouns grounding flags as absent: among the concepts in the scene, and
    among concepts that only the next scene has.
    """
    flagged: dict[bool, list[bool]] = {True: [], False: []}
    for number, groups in enumerate(results):
        own, other = set(names[number]) - {""}, set(names[(number + 1) % len(names)]) - {""}
        for concept in own | other:
            best = max((each.score for each in groups.get(concept, ())), default=0.0)
            flagged[concept in own].append(best <= threshold)
    return {
        "flagged nouns of things in the picture": mean(flagged[True]),
        "flagged nouns of things that are not there": mean(flagged[False]),
    }


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


if __name__ == "__main__":
    main()
