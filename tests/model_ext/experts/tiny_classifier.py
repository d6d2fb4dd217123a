"""A folder with a tiny image classifier of transformers. Its weights are random."""

from pathlib import Path

import torch

LABELS = ("cat, house cat", "dog", "umbrella", "penguin, bird of the south", "car")


def write_classifier(folder: Path, *, several: bool = False) -> Path:
    """`several`: whether its labels are independent of each other."""
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        initializer_range=0.5,  # with the default, all pictures get nearly equal scores
        id2label=dict(enumerate(LABELS)),
        problem_type="multi_label_classification" if several else None,
    )
    model = ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
