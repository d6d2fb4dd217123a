"""The page's viewer of point clouds: places and colors of the points, and use of WebGL."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.server.page.viewer import MANY, WINDOW, cloud, page_alone, show_cloud
from tests.serving.demo.browser import chromium

TURN, SPIN = 0.5, -0.8
NEAR, FAR = (1.0, 0.2, 0.1), (0.1, 0.3, 0.9)
WIDTH, HEIGHT = 180, 120
ROUNDING = 2  # of 255, because the colors have 256 steps
PAINT = """
async ([painter, turn, spin, near, far, width, height]) => {
  const painters = await import("/page/mix/painters.js");
  const points = new Float32Array(await (await fetch("/v1/files/1/points")).arrayBuffer());
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  painters[painter](canvas, points)({ turn, spin }, { near, far });
  const copy = new OffscreenCanvas(width, height).getContext("2d");
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, width, height).data];
}
"""
# Whether the viewer's canvas has a context of this kind. A canvas never has two kinds.
HAS = "(kind) => document.querySelector('canvas').getContext(kind) !== null"


def expected_picture(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Draw the points one by one, from the farthest to the nearest: colors (height, width, 4)."""
    picture = np.zeros((HEIGHT, WIDTH, 4))
    cos, sin = np.cos(SPIN), np.sin(SPIN)
    around_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    cos, sin = np.cos(TURN), np.sin(TURN)
    around_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    turned = points.astype(float) @ (around_x @ around_y).T
    for x, y, z in turned[np.argsort(turned[:, 2])]:
        column, row = WIDTH / 2 + 0.46 * HEIGHT * x, HEIGHT / 2 - 0.46 * HEIGHT * y
        part = 0.5 - 0.5 * z
        color = (1 - part) * np.array(NEAR) + part * np.array(FAR)
        picture[int(row), int(column)] = (*(255 * color), 255)
    return picture


def around(values: NDArray[Any]) -> NDArray[Any]:
    """The values (9, height, width, ...) of each pixel and of the eight pixels around it."""
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.stack([np.roll(values, shift, (0, 1)) for shift in shifts])


@pytest.mark.parametrize("painter", ["webglPainter", "splatPainter"])
def test_both_painters_draw_the_same_picture(painter: str) -> None:
    """WebGL rounds coordinates to parts of a pixel, so a pixel may show a point of the pixel beside
    it. Each pixel's color is between the colors that are expected at the pixel and around it.
    """
    points = cloud(40_000)
    with chromium() as context, page_alone(context) as page:
        page.route("**/v1/files/**", lambda route: route.fulfill(body=points.tobytes()))
        arguments = [painter, TURN, SPIN, NEAR, FAR, WIDTH, HEIGHT]
        pixels = page.evaluate(PAINT, arguments)
    picture = np.array(pixels, float).reshape(HEIGHT, WIDTH, 4)
    expected = expected_picture(points)
    lit, expected_lit = picture[:, :, 3] > 0, expected[:, :, 3] > 0
    assert expected_lit.sum() > 1000
    for mirrored in (expected_lit[::-1], expected_lit[:, ::-1]):
        assert (mirrored & around(expected_lit).any(0)).sum() < 0.9 * expected_lit.sum()
    assert not (lit & ~around(expected_lit).any(0)).any()
    assert not (expected_lit & ~around(lit).any(0)).any()
    low = around(np.where(expected_lit[:, :, None], expected, np.inf)).min(0) - ROUNDING
    high = around(np.where(expected_lit[:, :, None], expected, -np.inf)).max(0) + ROUNDING
    between = ((low <= picture) & (picture <= high)).all(2)[lit & expected_lit]
    assert between.mean() >= 0.99
    differences = np.abs(picture - expected)[lit & expected_lit].max(axis=1)
    assert (differences <= ROUNDING).mean() >= (1 if painter == "splatPainter" else 0.9)


@pytest.mark.parametrize(
    ("flags", "count", "kind"),
    [
        ((), 2000, "webgl"),
        ((), MANY, "2d"),
        (WINDOW, MANY, "2d"),
        ((*WINDOW, "--disable-3d-apis"), 2000, "2d"),
    ],
    ids=["few points", "many points", "many points in a window", "no WebGL"],
)
def test_without_a_gpu_many_points_are_drawn_without_webgl(
    flags: tuple[str, ...], count: int, kind: str
) -> None:
    with chromium(*flags) as context, page_alone(context) as page:
        page.emulate_media(reduced_motion="no-preference")
        show_cloud(page, count, 338, 208)
        assert page.evaluate(HAS, kind)
        assert "points" in page.locator(".cloud-note").inner_text()
