"""Train the detector, write its checkpoints, and write its folder.

Each step composes new scenes. The proposal network learns the scenes' boxes. The picture encoder
starts as a copy of the model's picture encoder. It learns to give the crop of a drawing an
embedding whose similarities to the embeddings of all names are those of the drawing's own name, and
which is close to the one that the model's encoder gives the drawing alone (distillation). Training
runs in a single process. The same command resumes an interrupted run from its last checkpoint.
Shapes: B scenes, C crops, D embedding.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from model_ext.device import choose_device
from model_ext.grounding.bind.config import BindDetectorConfig
from model_ext.grounding.bind.crops import sampled_crops
from model_ext.grounding.bind.detector import BindDetector
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.imagebind.subset import load_encoders, read_config
from model_ext.train.detector.batches import Composer, SceneBatch
from model_ext.train.detector.calibrate import calibrate
from model_ext.train.detector.config import DetectorConfig
from model_ext.train.detector.loss import proposal_loss
from model_ext.train.detector.names import Names, name_vectors
from model_ext.train.encoders.batches import generator
from model_ext.train.encoders.embed import embed
from model_ext.train.encoders.samples import Samples, key_weights, load, read_list
from model_ext.train.errors import TrainError
from model_ext.train.loop.schedule import learning_rate
from model_ext.train.loop.steps import run_steps

SHIFT = 0.08  # standard deviation of the random shift of a crop's sides, relative to the box


def train_detector(config: DetectorConfig, until: int | None = None) -> Path:
    """Train to the last step or to step `until`. Returns the detector's folder.

    Raises TrainError: when a file or a setting is invalid.
    """
    trainer = open_trainer(config)
    run_steps(trainer, config, until)
    model = trainer.model.cpu().eval()
    if config.validation_list is not None:
        model.config = calibrate(model, config)
    model.save(config.out / "detector")
    return config.out / "detector"


def open_trainer(config: DetectorConfig) -> "DetectorTrainer":
    """Read the drawings and the encoders, and start a detector: a random proposal network and a
    copy of the model's picture encoder.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    modalities = {"vision", "text"} & set(read_config(config.encoders).modalities)
    teacher = load_encoders(config.encoders, modalities | {"vision"})
    drawings, texts = drawings_of(config, teacher)
    vision = load_encoders(config.encoders, ["vision"])
    sizes = BindDetectorConfig(side=config.side, encoder=json.loads(vision.config.to_json()))
    model = BindDetector(sizes)
    model.encoder.load_state_dict(vision.state_dict())
    names = name_vectors(drawings.keys, embed(teacher, "vision", drawings.data), texts)
    return DetectorTrainer(config, model, drawings, names)


def drawings_of(config: DetectorConfig, teacher: ImageBind) -> tuple[Samples, dict[str, Tensor]]:
    """Read the training drawings (M, 4, s, s), except those with a key in `omit`, and the unit
    embeddings of the texts of each key.
    """
    sizes, store = PreprocessConfig.of(teacher.config), config.out / "samples"
    samples = load(config.train_list, teacher.modalities, store, sizes, config.image_side)
    pictures = samples.get("vision")
    rows = (
        []
        if pictures is None
        else [row for row, key in enumerate(pictures.keys) if key not in config.omit]
    )
    if pictures is None or not rows:
        raise TrainError(f"{config.train_list}: no pictures to train with")
    drawings = Samples(pictures.data[rows], tuple(pictures.keys[row] for row in rows))
    if "text" not in samples:
        return drawings, {}
    vectors = embed(teacher, "text", samples["text"].data)
    return drawings, {key: vectors[own] for key, own in samples["text"].rows().items()}


def drawing_weights(config: DetectorConfig, drawings: Samples) -> Tensor:
    """Return how often each drawing (M,) is used: the weight of its key, shared by its drawings."""
    weights, rows = key_weights(read_list(config.train_list)), drawings.rows()
    return torch.tensor([weights[key] / len(rows[key]) for key in drawings.keys])


class DetectorTrainer:
    """Trains the model on scenes that it composes of drawings. The random numbers of a step depend
    only on the step's number and the seed, so that a resumed run on a CPU equals an uninterrupted
    one.
    """

    def __init__(
        self, config: DetectorConfig, model: BindDetector, drawings: Samples, names: Names
    ) -> None:
        self.config = config
        self.device = torch.device(choose_device(config.device))
        self.model = model.to(self.device)
        if self.device.type == "cuda":
            # Convolutions are faster in this memory format.
            self.model.proposals.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.names = names.to(self.device)
        self.composer = Composer(
            drawings.data,
            drawing_weights(config, drawings),
            config.side,
            config.max_drawings,
            config.backgrounds,
            self.device,
            config.seed,
        )
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
        g = generator(config.seed, step)
        scenes = self.composer.compose(config.batch, g)
        half = self.device.type == "cuda"
        crops, drawings = self._crops(scenes, g)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits, boxes = self.model.proposals(scenes.pictures)
            vectors = self._embed(crops)
        objectness, box, overlap = proposal_loss(logits, boxes, scenes.boxes, config.side)
        divergence, distance = self.names.losses(vectors.float(), drawings)
        loss = objectness + box + divergence + distance
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        numbers = {
            "loss": loss,
            "loss/objectness": objectness,
            "loss/boxes": box,
            "loss/names": divergence,
            "loss/embedding": distance,
            "overlap": overlap,
            "grad_norm": norm,
        }
        values = torch.stack([each.detach() for each in numbers.values()]).tolist()
        return dict(zip(numbers, values, strict=True)) | {"lr": rate}

    def _crops(self, scenes: SceneBatch, g: Generator) -> tuple[Tensor, Tensor]:
        """Cut crops (C, 3, s, s) of boxes whose sides are shifted at random. Returns them with the
        drawings (C,) that they show. The boxes are drawn with replacement, so that all steps have
        the same shapes.
        """
        rows, slots = scenes.filled.nonzero(as_tuple=True)
        count = self.config.crops * self.config.batch if len(rows) else 0
        chosen = torch.randint(max(1, len(rows)), (count,), generator=g).to(self.device)
        rows, slots = rows[chosen], slots[chosen]
        own = scenes.boxes[rows, slots]
        noise = SHIFT * torch.randn(own.shape, generator=g).to(self.device)
        shifted = own + noise * (own[:, 2:] - own[:, :2]).repeat(1, 2)
        size = self.model.encoder.config.vision.image_size  # type: ignore[union-attr]
        crops = sampled_crops(scenes.pictures, rows, shifted, self.model.config.margin, size)
        return crops, scenes.drawings[rows, slots]

    def _embed(self, crops: Tensor) -> Tensor:
        """Compute unit embeddings (C, D). There are no crops if no drawing had a place."""
        if not len(crops):
            return crops.new_zeros(0, self.model.embedding_dim)
        return self.model.encoder.unit("vision", crops)

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
