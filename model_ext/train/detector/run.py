"""Train the detector, write its checkpoints, and write its folder.

Each step composes new scenes. The proposal network learns the scenes' boxes. The picture encoder
starts as a copy of the model's picture encoder. It learns to give the crop of a drawing the same
embedding that the model's encoder gives the drawing alone (distillation). Training runs in a single
process. The same command resumes an interrupted run from its last checkpoint.
Shapes: B scenes, C crops, D embedding.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model_ext.grounding.bind.config import BindDetectorConfig
from model_ext.grounding.bind.crops import crops
from model_ext.grounding.bind.detector import BindDetector
from model_ext.grounding.boxes import Letterbox
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.preprocess.image import normalize
from model_ext.imagebind.subset import load_encoders
from model_ext.train.detector.calibrate import calibrate
from model_ext.train.detector.config import DetectorConfig
from model_ext.train.detector.loss import proposal_loss
from model_ext.train.detector.scenes import Scene, compose
from model_ext.train.encoders.embed import embed
from model_ext.train.encoders.samples import Samples, load
from model_ext.train.errors import TrainError
from model_ext.train.loop.schedule import learning_rate
from model_ext.train.loop.steps import run_steps

SHIFT = 0.08  # standard deviation of the random shift of a crop's sides, relative to the box


def train_detector(config: DetectorConfig, until: int | None = None) -> Path:
    """Train to the last step or to step `until`. Returns the detector's folder.

    Raises TrainError: when a file or a setting is invalid.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    teacher = load_encoders(config.encoders, ["vision"])
    drawings = drawings_of(config, teacher)
    trainer = DetectorTrainer(config, new_detector(config, teacher), teacher, drawings)
    run_steps(trainer, config, until)
    model = trainer.model.eval()
    if config.validation_list is not None:
        model.config = calibrate(model, config)
    model.save(config.out / "detector")
    return config.out / "detector"


def new_detector(config: DetectorConfig, teacher: ImageBind) -> BindDetector:
    """Make a detector: a random proposal network and a copy of the teacher's picture encoder."""
    sizes = BindDetectorConfig(side=config.side, encoder=json.loads(teacher.config.to_json()))
    model = BindDetector(sizes)
    model.encoder.load_state_dict(teacher.state_dict())
    return model


def drawings_of(config: DetectorConfig, teacher: ImageBind) -> Samples:
    """Read the training drawings (M, 4, s, s), except those with a key in `omit`."""
    sizes = PreprocessConfig.of(teacher.config)
    store = config.out / "samples"
    samples = load(config.train_list, ["vision"], store, sizes, config.image_side).get("vision")
    rows = (
        []
        if samples is None
        else [row for row, key in enumerate(samples.keys) if key not in config.omit]
    )
    if samples is None or not rows:
        raise TrainError(f"{config.train_list}: no pictures to train with")
    return Samples(samples.data[rows], tuple(samples.keys[row] for row in rows))


class DetectorTrainer:
    """Trains the model on scenes that it composes of drawings. The random numbers of a step depend
    only on the step's number and the seed, so that a resumed run equals an uninterrupted one.
    """

    def __init__(
        self, config: DetectorConfig, model: BindDetector, teacher: ImageBind, drawings: Samples
    ) -> None:
        self.config, self.model = config, model
        self.drawings = drawings.data.numpy()
        self.targets = embed(teacher, "vision", drawings.data)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(model.proposals.parameters()), "factor": 1.0},
                {"params": list(model.encoder.parameters()), "factor": config.encoder_rate},
            ],
            lr=0.0,
            weight_decay=config.weight_decay,
        )

    def step(self, step: int) -> dict[str, float]:
        """Update the weights. Returns the losses, the mean overlap and the learning rate."""
        config = self.config
        rate = learning_rate(step, config.warmup_steps, config.steps, config.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.model.train()
        rng = np.random.default_rng([config.seed, step])
        scenes = [
            compose(self.drawings, rng, config.side, config.max_drawings)
            for _ in range(config.batch)
        ]
        pictures = [picture_of(scene) for scene in scenes]
        squares = [Letterbox.of(p.shape[1], p.shape[2], config.side).apply(p) for p in pictures]
        logits, boxes = self.model.proposals(torch.stack(squares))
        truth = [torch.from_numpy(scene.boxes) for scene in scenes]
        objectness, box, overlap = proposal_loss(logits, boxes, truth, config.side)
        distance = self._distance(scenes, pictures, rng)
        loss = objectness + box + distance
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        return {
            "loss": loss.item(),
            "loss/objectness": objectness.item(),
            "loss/boxes": box.item(),
            "loss/embedding": distance.item(),
            "overlap": overlap.item(),
            "grad_norm": norm.item(),
            "lr": rate,
        }

    def _distance(
        self, scenes: list[Scene], pictures: list[Tensor], rng: np.random.Generator
    ) -> Tensor:
        """Compute the mean of 1 - cosine between the embeddings of crops and those of their
        drawings.
        """
        cut, targets = [], []
        size = self.model.encoder.config.vision.image_size  # type: ignore[union-attr]
        for scene, picture in zip(scenes, pictures, strict=True):
            chosen = rng.permutation(len(scene.boxes))[: self.config.crops]
            if not len(chosen):
                continue
            own = scene.boxes[chosen]
            sides = np.tile(own[:, 2:] - own[:, :2], 2)
            shifted = own + rng.normal(0, SHIFT, own.shape) * sides
            shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 2)
            margin = self.model.config.margin
            cut.append(crops(picture, torch.from_numpy(shifted.astype(np.float32)), margin, size))
            targets += [scene.drawings[index] for index in chosen]
        if not cut:
            return torch.zeros(())
        vectors = self.model.encoder.unit("vision", torch.cat(cut))
        return (1 - F.cosine_similarity(vectors, self.targets[targets])).mean()

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


def picture_of(scene: Scene) -> Tensor:
    """Return the normalised pixels (3, H, W) of a scene."""
    return normalize(torch.from_numpy(scene.picture.copy()).permute(2, 0, 1))
