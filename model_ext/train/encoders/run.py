"""Align encoders with pictures: the training loop, its checkpoints and the final encoders' folder.

Training runs in a single process. The same command resumes an interrupted run from its last
checkpoint.
Shapes: B keys in the batch, D embedding.
"""

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.preprocess.config import PreprocessConfig
from model_ext.train.encoders.batches import Batches, varied
from model_ext.train.encoders.config import EncodersConfig
from model_ext.train.encoders.embed import embed_views
from model_ext.train.encoders.evaluate import accuracies
from model_ext.train.encoders.loss import contrast
from model_ext.train.encoders.muon import Muon
from model_ext.train.encoders.samples import Samples, key_weights, load, read_list
from model_ext.train.encoders.start import start_small
from model_ext.train.loop.journal import Journal
from model_ext.train.loop.schedule import learning_rate
from model_ext.train.loop.steps import run_steps


def train_encoders(config: EncodersConfig, until: int | None = None) -> dict[str, float]:
    """Train to the last step or to step `until`, and write `<out>/encoders`.

    Returns modality -> accuracy on the validation list. Raises TrainError: when a file or a setting
    is invalid.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    training, validation = _samples(config)
    torch.manual_seed(config.seed)
    model = _model(config)
    aligner = Aligner(config, model, training)
    shares: dict[str, float] = {}

    def validate(step: int, journal: Journal) -> None:
        shares.update(accuracies(model, training, validation))
        journal.note(step, {f"found/{name}": share for name, share in shares.items()})

    run_steps(aligner, config, until, validate if validation else None)
    model.eval().save(config.out / "encoders")
    return shares


class Aligner:
    """The model, its optimisers and the samples. A training step depends only on its number and the
    seed.
    """

    def __init__(
        self, config: EncodersConfig, model: ImageBind, training: dict[str, Samples]
    ) -> None:
        self.config = config
        self.model = model
        trained = [name for name in training if name in config.train]
        self.fixed_anchors = config.mean_anchors or "vision" not in config.train
        samples = {name: training[name] for name in {"vision", *trained}}
        list_rows = read_list(config.train_list)
        self.batches = Batches(samples, key_weights(list_rows), config.batch, config.seed)
        self.trained = sorted(trained)
        self.aligned = [n for n in self.trained if n != "vision" or config.pair_pictures]
        model.requires_grad_(False)
        for name in self.trained:
            model.encoder(name).requires_grad_(True)
        self.optimizers = _optimizers(model, config.weight_decay)
        self.anchors = torch.empty(0)
        if self.fixed_anchors:  # with the weights of `start`
            views, pictures = range(config.anchor_views), self.batches.samples["vision"].data
            self.anchors = embed_views(model.eval(), pictures, views, config.seed + 1)
        if config.mean_anchors:
            is_anchor = [row.get("anchor", True) for row in list_rows if row["modality"] == "image"]
            for rows in self.batches.rows["vision"].values():
                anchor_rows = [row for row in rows if is_anchor[row]] or rows
                self.anchors[rows] = F.normalize(self.anchors[anchor_rows].mean((0, 1)), dim=-1)

    def step(self, step: int) -> dict[str, float]:
        """Update the weights. Returns the losses, the gradient norm and the learning rate."""
        config = self.config
        rate = learning_rate(step, config.warmup_steps, config.steps, config.learning_rate)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        self._train_mode()
        keys, g = self.batches.draw(step)
        anchors = self._anchors(keys, g)
        losses = {}
        for name in self.aligned:
            positions, rows = self.batches.pick(name, keys, g)
            if len(positions) > 1:
                others = self._embed(name, rows, g) * config.scales.get(name, 1.0)
                losses[name] = contrast(anchors[positions], others, config.smoothing)
        loss = torch.stack(list(losses.values())).sum()
        self.model.zero_grad()
        torch.autograd.backward(loss)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        norm = nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        each = {f"loss/{name}": value.item() for name, value in losses.items()}
        return {"loss": loss.item(), **each, "grad_norm": norm.item(), "lr": rate}

    def _anchors(self, keys: list[str], g: Generator) -> Tensor:
        """Embed one picture of each key. Returns vectors (B, D) of length 1."""
        _, rows = self.batches.pick("vision", keys, g)
        if not self.fixed_anchors:
            return self._embed("vision", rows, g)
        view = torch.randint(self.anchors.shape[1], (len(rows),), generator=g)
        return self.anchors[rows, view]

    def _embed(self, name: str, rows: list[int], g: Generator) -> Tensor:
        data = self.batches.samples[name].data[rows]
        inputs = varied(name, data, self.model.config, g)
        return self.model.embed(name, inputs)

    def _train_mode(self) -> None:
        """Set training mode. Frozen encoders stay in evaluation mode, so that their batch
        statistics do not change.
        """
        for name in self.model.modalities:
            self.model.encoder(name).train(name in self.trained)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _samples(config: EncodersConfig) -> tuple[dict[str, Samples], dict[str, Samples]]:
    """Return the training samples and the validation samples of each modality."""
    sizes = PreprocessConfig.of(config.sizes)
    modalities = sorted({"vision", *config.train})
    store = config.out / "samples"
    training = load(config.train_list, modalities, store, sizes, config.image_side)
    if config.validation_list is None:
        return training, {}
    return training, load(config.validation_list, modalities, store, sizes, config.image_side)


def _model(config: EncodersConfig) -> ImageBind:
    """Initialise encoders. Those that `start` contains get its weights."""
    model = ImageBind(config.sizes)
    start_small(model)
    if config.start is not None:
        earlier = ImageBind.from_folder(config.start)
        for name in earlier.modalities:
            if name in model.modalities:
                model.encoder(name).load_state_dict(earlier.encoder(name).state_dict())
    return model


def _optimizers(model: ImageBind, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Create Muon for the matrices of blocks, and AdamW for the other parameters.

    With Muon, training needs about half as many steps. Muon's updates are as large as AdamW's, so
    both use one learning rate. Positions, class tokens, word embeddings and tensors with one axis
    have no weight decay.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [
        p for n, p in trained.items() if ".blocks." in n and n.endswith("weight") and p.ndim == 2
    ]
    rest = {n: p for n, p in trained.items() if not any(p is matrix for matrix in matrices)}
    no_decay = (
        "positions",
        "class_token",
        "class_position",
        "bias_k",
        "bias_v",
        "embedding.weight",
    )
    decays = {n for n, p in rest.items() if p.ndim > 1 and not n.endswith(no_decay)}
    groups = [
        {"params": [p for n, p in rest.items() if n in decays], "weight_decay": weight_decay},
        {"params": [p for n, p in rest.items() if n not in decays], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))
    if not matrices:
        return [adamw]
    return [adamw, Muon(matrices, lr=0.0, weight_decay=weight_decay)]
