"""On a CPU, the encoders split a batch into portions, which gives the same embeddings."""

import pytest
import torch

from model_ext.imagebind import portions as module
from model_ext.imagebind.model import ImageBind
from model_ext.imagebind.portions import portions

SHAPES = {
    "vision": (5, 3, 224, 224),
    "audio": (2, 3, 1, 128, 204),
    "depth": (5, 1, 224, 224),
    "imu": (5, 6, 2000),
    "point": (5, 300, 3),
}


@pytest.mark.parametrize("modality", [*SHAPES, "text"])
def test_portions_change_nothing(
    modality: str, tiny: ImageBind, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    inputs = torch.randint(1, 49000, (5, 77)) if modality == "text" else None
    inputs = torch.randn(*SHAPES[modality]) if inputs is None else inputs
    whole = tiny.embed(modality, inputs)  # batches with gradients are not split
    seen = []

    def counting(x: torch.Tensor, rows: int) -> tuple[torch.Tensor, ...]:
        seen.append(portions(x, rows))
        return seen[-1]

    for user in ("transformer", "point"):
        monkeypatch.setattr(f"model_ext.imagebind.{user}.portions", counting)
    monkeypatch.setattr(module, "ROWS", 1)
    with torch.inference_mode():
        torch.testing.assert_close(tiny.embed(modality, inputs), whole, rtol=1e-5, atol=1e-5)
    assert max(map(len, seen)) >= 5


def test_how_much_goes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 600)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    x = torch.zeros(10, 7)
    with torch.no_grad():
        assert [len(part) for part in portions(x, 257)] == [4, 4, 2]
        assert len(portions(x, 5000)) == 10  # A portion has at least one row.
        assert portions(x.to("meta"), 257)[0].shape == x.shape  # Only batches on a CPU are split.
    assert portions(x, 257)[0] is x
