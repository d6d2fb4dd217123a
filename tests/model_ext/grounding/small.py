"""A small detector of bindserve with random weights, for tests."""

import torch

from model_ext.grounding.bind.config import BindDetectorConfig
from model_ext.grounding.bind.detector import BindDetector

DIM = 16
ENCODER = {
    "embed_dim": DIM,
    "vision": {"width": 16, "blocks": 1, "heads": 2, "image_size": 32, "patch_size": 16},
}
CONFIG = BindDetectorConfig(
    side=64, channels=(8, 8, 8, 8), head_channels=8, encoder=ENCODER, min_objectness=0.0
)


def small_detector(seed: int = 0) -> BindDetector:
    torch.manual_seed(seed)
    model = BindDetector(CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()
