"""Fit the curves that turn cosines and objectness into scores, on validation scenes.

For each modality of queries, a logistic curve is fitted to pairs of a box and a query. Pairs whose
box shows the query's thing and the other pairs have the same total weight in the fit.
Shapes: N boxes, Q queries, D embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model_ext.grounding.bind.config import BindDetectorConfig, Calibration
from model_ext.grounding.bind.detector import SMALLEST, BindDetector, scores_of
from model_ext.grounding.boxes import overlaps
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.train.detector.config import DetectorConfig
from model_ext.train.detector.scenes import compose
from model_ext.train.encoders.embed import embed
from model_ext.train.encoders.samples import Samples, load
from model_ext.train.errors import TrainError

SCENES = 150
SEED = 1_000_003  # The training scenes have other seeds.
SAME = 0.5  # A box shows a drawing if it overlaps the drawing's box by at least this much.
STEPS = 50
MODALITY = {"vision": "image"}  # encoder -> modality of a query

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SceneBoxes:
    """The boxes that the detector finds in one scene."""

    vectors: Tensor  # unit embeddings (N, D)
    objectness: Tensor  # (N,)
    names: list[str]  # the key of the drawing that each box shows, or ""
    keys: list[str]  # the keys of the drawings in the scene


@torch.no_grad()
def calibrate(model: BindDetector, config: DetectorConfig) -> BindDetectorConfig:
    """Return the detector's configuration with a curve for each modality, and with a threshold.

    Raises TrainError: when the validation list has no pictures or no queries, or the detector finds
    no boxes.
    """
    if config.validation_list is None:
        raise TrainError("validation_list: required to calibrate the detector")
    teacher = ImageBind.from_folder(config.encoders)
    sizes, store = PreprocessConfig.of(teacher.config), config.out / "samples"
    samples = load(config.validation_list, teacher.modalities, store, sizes, config.image_side)
    if "vision" not in samples:
        raise TrainError(f"{config.validation_list}: no pictures")
    scenes = find_things(model, samples["vision"], config)
    curves, scores = {}, {}
    for encoder, own in samples.items():
        modality = MODALITY.get(encoder, encoder)
        queries = embed(teacher, encoder, own.data)
        curves[modality] = fit_scenes(scenes, queries, own.keys)
        scores[modality] = score_scenes(scenes, queries, own.keys, curves[modality])
    threshold = best_threshold(*scores["text" if "text" in scores else "image"])
    return model.config.model_copy(update={"calibration": curves, "threshold": threshold})


def find_things(model: BindDetector, pictures: Samples, config: DetectorConfig) -> list[SceneBoxes]:
    """Compose scenes, and find the boxes in them. Omits scenes in which the detector finds none.

    Raises TrainError: when it finds none in all scenes.
    """
    rng = np.random.default_rng(SEED)
    drawings = pictures.data.numpy()
    scenes = []
    for scene in [compose(drawings, rng, config.side, config.max_drawings) for _ in range(SCENES)]:
        boxes, objectness, vectors = model.things([torch.from_numpy(scene.picture.copy())])[0]
        keys = [pictures.keys[index] for index in scene.drawings]
        names = _names(boxes, torch.from_numpy(scene.boxes), keys)
        if len(boxes):
            scenes.append(SceneBoxes(vectors, objectness, names, keys))
    if not scenes:
        raise TrainError("the detector finds no boxes in the validation scenes: train it longer")
    return scenes


def fit_scenes(scenes: Sequence[SceneBoxes], queries: Tensor, keys: Sequence[str]) -> Calibration:
    """Fit the curve of one modality. `queries`: (Q, D) of length 1, with their keys.

    Raises TrainError: when no box, or every box, shows the thing of its query.
    """
    cosines = np.concatenate([(scene.vectors @ queries.T).numpy() for scene in scenes])
    objectness = np.concatenate([scene.objectness.numpy() for scene in scenes])
    same = np.array([[key == name for key in keys] for scene in scenes for name in scene.names])
    return fit(cosines.ravel(), objectness.repeat(len(keys)), same.ravel())


def score_scenes(
    scenes: Sequence[SceneBoxes], queries: Tensor, keys: Sequence[str], curve: Calibration
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the largest score of each query (Q,) in each scene, one scene after the other, and
    whether the scene contains the thing of the query.
    """
    scores = []
    for scene in scenes:
        own = scores_of(scene.vectors @ queries.T, scene.objectness, [curve])
        scores.append(own.amax(0).numpy())
    present = [np.isin(keys, scene.keys) for scene in scenes]
    return np.concatenate(scores), np.concatenate(present)


def _names(boxes: Tensor, truth: Tensor, keys: list[str]) -> list[str]:
    """Return the key of the drawing that each box (N, 4) shows, or "" if it shows no drawing."""
    if not len(truth) or not len(boxes):
        return [""] * len(boxes)
    best, index = overlaps(boxes, truth).max(1)
    return [keys[i] if value >= SAME else "" for value, i in zip(best, index.tolist(), strict=True)]


def fit(
    cosines: NDArray[np.float32], objectness: NDArray[np.float32], same: NDArray[np.bool_]
) -> Calibration:
    """Fit a curve by Newton's method. Each of the three arrays has one element for each pair of a
    box and a query.

    Raises TrainError: when all labels are equal.
    """
    if not same.any() or same.all():
        raise TrainError("validation_list: the queries must match some, but not all pictures")
    evidence = np.log(np.maximum(objectness.astype(np.float64), SMALLEST))
    x = np.stack([cosines.astype(np.float64), evidence, np.ones(len(cosines))])
    weights = np.where(same, 0.5 / same.sum(), 0.5 / (~same).sum())
    solution: Numbers = np.zeros(3)
    for _ in range(STEPS):
        probability = 1 / (1 + np.exp(-solution @ x))
        gradient = x @ (weights * (probability - same))
        curvature = (x * (weights * probability * (1 - probability))) @ x.T
        # The ridge term keeps the solution finite if a threshold separates the classes without
        # errors.
        ridge = 1e-4 * np.eye(3)
        solution -= np.linalg.solve(curvature + ridge, gradient + ridge @ solution)
    slope, weight, offset = solution.tolist()
    return Calibration(slope=max(1e-3, slope), weight=max(0.0, weight), offset=offset)


def best_threshold(scores: NDArray[np.float32], present: NDArray[np.bool_]) -> float:
    """Return the score that best separates queries whose thing is in the scene from other queries.
    It has the largest mean of two shares: the queries of each class that it decides right.
    """
    values = np.quantile(scores, np.linspace(0, 1, 512))
    hits = np.array([(scores[present] > value).mean() for value in values])
    rejected = np.array([(scores[~present] <= value).mean() for value in values])
    return float(values[(hits + rejected).argmax()])
