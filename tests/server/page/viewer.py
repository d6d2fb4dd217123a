"""The page's viewer of point clouds alone, in Chromium: no server runs.

    python -m tests.server.page.viewer

prints how many times per second a cloud of 250,000 points is drawn while it turns, on a canvas of
the page's size and on a larger one. Chromium has no GPU here: it draws in software.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from server.api.routes.page import FOLDER, HEADERS, MEDIA_TYPES
from tests.serving.demo.browser import chromium

# Chromium with a window, on a display that exists only in memory. Without the first flag and with
# headless=True, Chromium has no window; it then regards WebGL in software as good enough.
WINDOW = ("--ozone-platform=headless",)
SECONDS = 5
MANY = 250_000
VIEWER = """
async ([width, height]) => {
  const { pointViewer } = await import("/page/mix/points.js");
  const viewer = pointViewer("cloud.npy");
  document.body.replaceChildren(viewer.wide);
  const canvas = document.querySelector("canvas");
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  viewer.stored("file-1");
}
"""


def cloud(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Draw random points (count, 3) of one part of the unit sphere, without any symmetry."""
    points = np.random.default_rng(0).uniform(-1, 1, (count, 3)) * (0.6, 0.2, 0.2)
    points[:, 0] += 0.2
    points[:, 1] += points[:, 0] ** 2 - 0.4 * points[:, 0] - 0.2
    return points.astype(np.float32)


@contextmanager
def page_alone(context: Any) -> Iterator[Any]:
    """A tab with the page's files, in which no script runs yet."""

    def answer(route: Any) -> None:
        path = route.request.url.split("http://page.test/", 1)[1]
        file = FOLDER / path.removeprefix("page/")
        if path:
            route.fulfill(
                body=file.read_bytes(), headers=HEADERS, content_type=MEDIA_TYPES[file.suffix]
            )
        else:
            route.fulfill(body="<!doctype html><html><body>", content_type="text/html")

    page = context.new_page()
    page.route("http://page.test/**", answer)
    page.goto("http://page.test/")
    try:
        yield page
    finally:
        page.close()


def show_cloud(page: Any, count: int, width: int, height: int) -> None:
    """Open the viewer with `count` points, and wait until it has drawn three frames."""
    points = cloud(count).tobytes()
    page.route("**/v1/files/**", lambda route: route.fulfill(body=points))
    page.evaluate(VIEWER, [width, height])
    page.wait_for_selector("canvas[data-frames]")
    while drawn_frames(page) < 3:
        page.wait_for_timeout(20)


def drawn_frames(page: Any) -> int:
    return int(page.locator("canvas").get_attribute("data-frames"))


def frames_per_second(page: Any) -> float:
    frames, start = drawn_frames(page), time.monotonic()
    page.wait_for_timeout(1000 * SECONDS)
    return (drawn_frames(page) - frames) / (time.monotonic() - start)


def measure() -> None:
    for name, flags in (("without a window", ()), ("with a window", WINDOW)):
        with chromium(*flags) as context:
            for width, height in ((338, 208), (800, 600)):
                with page_alone(context) as page:
                    page.emulate_media(reduced_motion="no-preference")
                    show_cloud(page, MANY, width, height)
                    rate = frames_per_second(page)
                    print(f"{name}, {width} x {height} pixels: {rate:.1f} frames/s", flush=True)


if __name__ == "__main__":
    measure()
