"""BindDetector: it finds the boxes of all things in a picture, and computes for each box an
embedding in ImageBind's space.

A query is a unit embedding of a text, a sound, a picture or another file. A box's score comes from
its objectness (the probability that it shows any thing) and the cosine of its embedding and the
query's (`Calibration`).
Shapes: B pictures, N boxes of a picture, Q queries, D embedding, S side of the square.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model_ext.grounding.bind.config import (
    CONFIG_FILE,
    TENSORS_FILE,
    BindDetectorConfig,
    Calibration,
)
from model_ext.grounding.bind.crops import crops
from model_ext.grounding.bind.proposals import ProposalNetwork
from model_ext.grounding.boxes import Letterbox, suppress
from model_ext.grounding.detector import Detection, Query, Takes
from model_ext.imagebind.model import ImageBind, TensorError
from model_ext.imagebind.preprocess.image import normalize

# If two proposals overlap by more than this, only the one with the higher score is kept.
MAX_OVERLAP = 0.55
# Larger pictures are scaled down to this side before boxes are cut out. The encoder's input is
# smaller anyway.
MAX_SIDE = 1024
UNCALIBRATED = Calibration(slope=20, weight=1, offset=-10)
SMALLEST = 1e-6  # Smaller values of objectness are raised to this one before the logarithm.


class BindDetector(nn.Module):
    takes: Takes = "vectors"

    def __init__(self, config: BindDetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.proposals = ProposalNetwork(config.channels, config.head_channels)
        self.encoder = ImageBind(config.sizes)

    @property
    def threshold(self) -> float:
        return self.config.threshold

    @property
    def embedding_dim(self) -> int:
        return self.config.sizes.embed_dim

    @torch.inference_mode()
    def detect(
        self,
        pictures: Sequence[NDArray[np.uint8]],
        queries: Sequence[Sequence[Query]],
        threshold: float,
    ) -> list[list[Detection]]:
        # torch warns about read-only arrays, so the pictures are copied.
        things = self.things([torch.from_numpy(np.array(picture)) for picture in pictures])
        return [
            self._match(*thing, own, threshold) for thing, own in zip(things, queries, strict=True)
        ]

    def things(self, pictures: Sequence[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Find the things in pictures (H, W, 3) uint8, in batches.

        Returns for each picture the boxes (N, 4), their objectness (N,) and unit embeddings (N, D).
        """
        device = next(self.parameters()).device
        normal = [_scaled(normalize(p.to(device).permute(2, 0, 1))) for p in pictures]
        side = self.config.side
        frames = [Letterbox.of(picture.shape[1], picture.shape[2], side) for picture, _ in normal]
        squares = torch.stack([f.apply(p) for f, (p, _) in zip(frames, normal, strict=True)])
        logits, boxes = self.proposals(squares)
        own_boxes, cut = [], []
        size = self.encoder.config.vision.image_size  # type: ignore[union-attr]
        for index, (frame, (picture, _)) in enumerate(zip(frames, normal, strict=True)):
            chosen = self._choose(logits[index].sigmoid(), boxes[index])
            height, width = picture.shape[1:]
            limit = boxes.new_tensor([width, height, width, height])
            own = (boxes[index][chosen] / frame.scale).clamp_min(0).minimum(limit)
            own_boxes.append((own, logits[index][chosen].sigmoid()))
            if len(own):
                cut.append(crops(picture, own, self.config.margin, size))
        vectors = self.encoder.unit("vision", torch.cat(cut)) if cut else logits.new_zeros(0, 1)
        parts = vectors.split([len(own) for own, _ in own_boxes])
        return [
            (own / scale, objectness, part)
            for (own, objectness), (_, scale), part in zip(own_boxes, normal, parts, strict=True)
        ]

    def _choose(self, scores: Tensor, boxes: Tensor) -> Tensor:
        """Return the indices of the boxes of one picture that probably show a thing."""
        candidates = (scores >= self.config.min_objectness).nonzero()[:, 0]
        best = candidates[scores[candidates].argsort(descending=True)[: 8 * self.config.max_boxes]]
        return best[suppress(boxes[best], scores[best], MAX_OVERLAP, self.config.max_boxes)]

    def _match(
        self,
        boxes: Tensor,
        objectness: Tensor,
        vectors: Tensor,
        queries: Sequence[Query],
        threshold: float,
    ) -> list[Detection]:
        if not len(boxes) or not queries:
            return []
        own = [query.vector for query in queries if query.vector is not None]
        wanted = torch.from_numpy(np.stack(own)).to(vectors)
        curves = [self.config.calibration.get(q.modality, UNCALIBRATED) for q in queries]
        scores = scores_of(vectors @ wanted.T, objectness, curves)
        rows, indices = (scores > threshold).nonzero(as_tuple=True)
        detections = [
            Detection(index, (box[0], box[1], box[2], box[3]), score)
            for index, box, score in zip(
                indices.tolist(),
                boxes[rows].tolist(),
                scores[rows, indices].tolist(),
                strict=True,
            )
        ]
        return sorted(detections, key=lambda each: -each.score)

    @classmethod
    def from_folder(cls, folder: Path, device: torch.device | str = "cpu") -> "BindDetector":
        """Read a folder that `save` wrote.

        Raises FileNotFoundError, ConfigError, TensorError: the message names the file.
        """
        path = folder / TENSORS_FILE
        model = cls(BindDetectorConfig.from_folder(folder))
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise TensorError(f"{path} is damaged", [str(error)]) from None
        expected = model.state_dict()
        if wrong := [
            name
            for name in {*expected, *tensors}
            if name not in tensors
            or name not in expected
            or expected[name].shape != tensors[name].shape
        ]:
            raise TensorError(f"{path}: tensors do not fit config.json", wrong)
        model.load_state_dict(tensors)
        return model.eval().to(device)

    def save(self, folder: Path) -> None:
        """Write the detector in half precision."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(self.config.model_dump_json(indent=2) + "\n")
        tensors = {
            name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
            for name, tensor in self.state_dict().items()
        }
        save_file(tensors, folder / TENSORS_FILE, metadata={"format": "pt"})


def scores_of(cosines: Tensor, objectness: Tensor, curves: Sequence[Calibration]) -> Tensor:
    """Return the scores (N, Q) of boxes for queries, from cosines (N, Q), the boxes' objectness
    (N,), and the curve of each query, or one curve for all.
    """
    numbers = [(curve.slope, curve.weight, curve.offset) for curve in curves]
    slopes, weights, offsets = cosines.new_tensor(numbers).unbind(1)
    evidence = objectness.clamp_min(SMALLEST).log()[:, None]
    return (slopes * cosines + weights * evidence + offsets).sigmoid()


def _scaled(picture: Tensor) -> tuple[Tensor, float]:
    """Scale a large picture (3, H, W) down to MAX_SIDE. Returns it with the scale factor."""
    height, width = picture.shape[1:]
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale == 1:
        return picture, scale
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    scaled = nn.functional.interpolate(
        picture[None], size, mode="bilinear", align_corners=False, antialias=True
    )[0]
    return scaled, scale
