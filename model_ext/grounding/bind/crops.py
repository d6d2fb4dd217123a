"""Cut boxes out of a picture for the picture encoder."""

import torch
from torch import Tensor
from torch.nn import functional as F


def crops(picture: Tensor, boxes: Tensor, margin: float, size: int) -> Tensor:
    """Cut a square around each box (N, 4) of the normalised picture (3, H, W): (N, 3, size, size).

    A square's side is the longer side of its box and a margin on both sides. Pixels outside of the
    picture are 0, the mean color.
    """
    return torch.stack([_crop(picture, box, margin, size) for box in boxes.tolist()])


def sampled_crops(
    pictures: Tensor, rows: Tensor, boxes: Tensor, margin: float, size: int
) -> Tensor:
    """Cut the same squares as `crops`, but out of a batch of normalised square pictures
    (B, 3, S, S) at once: box (N, 4) number n out of the picture with the index `rows[n]`. Crops of
    boxes that are larger than 2 * size are less smooth than those of `crops`.
    """
    if not len(boxes):
        return pictures.new_zeros(0, 3, size, size)
    side = pictures.shape[-1]
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1).clamp_min(1) * (1 + 2 * margin) / side
    middle = (boxes[:, :2] + boxes[:, 2:]) / side - 1
    zero = torch.zeros_like(half)
    x = torch.stack([half, zero, middle[:, 0]], dim=1)
    y = torch.stack([zero, half, middle[:, 1]], dim=1)
    shape = [len(boxes), 3, 2 * size, 2 * size]
    grid = F.affine_grid(torch.stack([x, y], dim=1), shape, align_corners=False)
    return F.avg_pool2d(F.grid_sample(pictures[rows], grid, align_corners=False), 2)


def _crop(picture: Tensor, box: list[float], margin: float, size: int) -> Tensor:
    height, width = picture.shape[1:]
    left, top, right, bottom = box
    side = max(1, round(max(right - left, bottom - top) * (1 + 2 * margin)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    inside = picture[:, max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
    # A box outside of the picture has an empty crop.
    if inside.shape[1] == 0 or inside.shape[2] == 0:
        return picture.new_zeros(3, size, size)
    right_pad, bottom_pad = max(0, x + side - width), max(0, y + side - height)
    square = F.pad(inside, (max(0, -x), right_pad, max(0, -y), bottom_pad))
    return F.interpolate(
        square[None], (size, size), mode="bilinear", align_corners=False, antialias=True
    )[0]
