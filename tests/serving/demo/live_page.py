"""Use the web page of a real server with all side models, while parts of the server fail.

    python -m tests.serving.demo.live_page --model FOLDER --detector FOLDER --speech-model FOLDER

--model is the folder of the demonstration model, --speech-model a Whisper model in CTranslate2's
format. The program prints a table row for each step, with what the page showed. It checks the
layout and writes screenshots, at three widths and in two themes. It needs Chromium, playwright,
and the extras `speech`, `ocr` and `ground`.
"""

import argparse
import io
import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

from model_ext.demo.questions import MEDIA, PICTURE, WHAT, WORD
from tests.serving.demo.browser import CHAT, Tab, chromium, endless, opened
from tests.serving.demo.layout import layout_faults, layouts
from tests.serving.faults import kill, process_of
from tests.serving.launch import FIXTURES, KEY, Server, serve

SPEECH = FIXTURES / "speech" / "fact.flac"
SETTINGS = {
    "key_requests_per_minute": 60,
    "page": True,
    "page_examples": str(MEDIA),
    "ocr": True,
    "decoder": "model",
}
START_S = RESTART_S = 900
# JavaScript that counts the frames of 5 seconds.
MEASURE_FRAMES = """
() => new Promise((resolve) => {
  const cloud = document.querySelector(".cloud");
  const [frames, start] = [cloud.dataset.frames, performance.now()];
  const rate = () => (cloud.dataset.frames - frames) / ((performance.now() - start) / 1000);
  setTimeout(() => resolve([rate(), cloud.width, cloud.height]), 5000);
})
"""


def enter_key(tab: Tab, server: Server) -> str:  # noqa: ARG001
    tab.page.get_by_role("button", name="Enter a key").click()
    tab.page.keyboard.type(KEY)
    tab.page.keyboard.press("Enter")
    tab.connected()
    tab.page.get_by_text("Settings", exact=True).click()
    return " / ".join(tab.page.locator(".check").all_inner_texts())


def experts(tab: Tab, server: Server) -> str:  # noqa: ARG001
    tab.drop((SPEECH.name, SPEECH.read_bytes()), ("sign.png", sign("EXIT 42")))
    tab.uploaded()
    tab.ask("What is said and written?")
    notes = tab.page.locator(".answer .notes[open] li").all_inner_texts()
    assert len(notes) == 2, notes
    assert "EXIT" in notes[1]
    return "; ".join(notes)


def sign(words: str) -> bytes:
    """Draw a picture of a text."""
    picture = Image.new("RGB", (400, 120), "white")
    ImageDraw.Draw(picture).text((20, 30), words, "black", font_size=60)
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def pictures(tab: Tab, server: Server) -> str:  # noqa: ARG001
    tab.add(PICTURE)
    control = tab.page.get_by_label("Draw a picture")
    control.check()
    answer = tab.ask("Draw it.")
    tab.page.wait_for_selector(".drawn")
    control.uncheck()
    size = tab.page.locator(".drawn").evaluate("image => image.decode().then(() => image.width)")
    return f"{answer.strip()} and a picture, {size} px wide"


def nouns(tab: Tab, server: Server) -> str:  # noqa: ARG001
    tab.add(PICTURE)
    control = tab.page.get_by_label("Search the nouns")
    control.check()
    answer = tab.ask(WHAT)
    tab.page.wait_for_selector(".nouns li")
    control.uncheck()
    chips = ", ".join(tab.page.locator(".nouns li").all_inner_texts())
    return f"{answer.strip()} Nouns: {chips}; {tab.page.locator('.boxes rect').count()} boxes"


def tools(tab: Tab, server: Server) -> str:  # noqa: ARG001
    function = {"name": "draw", "parameters": {"type": "object", "properties": {}}}
    control = tab.page.get_by_label("Tools")
    control.fill(json.dumps([{"type": "function", "function": function}]))
    answer = tab.ask("Hello!")
    control.fill("")
    assert not tab.page.locator(".answer .problem").is_visible()
    return f"{answer.strip()} and {tab.page.locator('.tool-call').count()} calls"


def points(tab: Tab, server: Server) -> str:  # noqa: ARG001
    """A cloud of 250,000 points turns. Without a GPU, the browser draws in software."""
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).normal(size=(250_000, 3)).astype(np.float32))
    tab.page.emulate_media(reduced_motion="no-preference")
    tab.drop(("cloud.npy", file.getvalue()))
    tab.page.locator(".kind select").select_option("point")
    tab.wait("document.querySelector('.cloud')?.dataset.frames > 20")
    rate, width, height = tab.page.evaluate(MEASURE_FRAMES)
    return f"{rate:.0f} frames/s on {width} x {height} pixels"


def many_requests(tab: Tab, server: Server) -> str:
    """Another program uses all requests that the key has in a minute."""
    with flooded(server):
        tab.ask("Hello!")
        shown = [tab.page.locator(".answer .problem").inner_text()]
        tab.drop((PICTURE, (MEDIA / PICTURE).read_bytes()))
        tab.page.wait_for_selector(".card .problem:not([hidden])")
        shown.append(tab.page.locator(".card .problem").inner_text())
    assert all("requests a minute" in each for each in shown), shown
    tab.page.locator(".card").get_by_role("button", name="Try again").click()
    tab.page.wait_for_selector(".card .problem", state="hidden")
    tab.uploaded()
    answer = again(tab)
    return f"answer and upload: {one_line(shown[0])}; then: {answer}"


@contextmanager
def flooded(server: Server) -> Iterator[None]:
    """Send requests without a pause until the key's limit is exceeded, and from then on."""
    full, ended = threading.Event(), threading.Event()

    def send() -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=server.url, headers=headers) as client:
            while not ended.is_set():
                if client.get("/v1/models").status_code == 429:
                    full.set()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        assert full.wait(60)
        yield
    finally:
        ended.set()
        thread.join()


def dead_encoders(tab: Tab, server: Server) -> str:
    """The encoding service is killed before a question about a new picture."""
    tab.drop(("sign.png", sign(str(time.time()))))
    tab.uploaded()
    kill(*server.children("server.encoding.service"))
    tab.ask(WHAT)
    shown = one_line(tab.page.locator(".answer .problem").inner_text())
    start = time.monotonic()
    answer = again(tab)
    return f"{shown}; {time.monotonic() - start:.0f} s later: {answer}"


def dead_engine(tab: Tab, server: Server) -> str:
    """The engine is killed during an answer, so that the server restarts and loses the files."""
    tab.add(WORD)
    tab.page.route(CHAT, endless)
    tab.start(WHAT)
    tab.wait("document.querySelector('[aria-busy=\"true\"] .words')?.textContent.length > 20")
    start = time.monotonic()
    kill(process_of(server, "EngineCore"))
    tab.answer()
    tab.page.unroute(CHAT)
    shown = one_line(tab.page.locator(".answer .problem").inner_text())
    tab.page.get_by_role("button", name="Try again").click()
    tab.answer()
    second = one_line(tab.page.locator(".answer .problem").inner_text())
    answer = again(tab)
    seconds = time.monotonic() - start
    assert "penguin" in tab.ask(WHAT)
    return f"{shown}; {second}; {seconds:.0f} s after the end of the engine: {answer}"


def again(tab: Tab) -> str:
    """Press "Try again", as soon as the page allows it, until there is an answer."""
    deadline = time.monotonic() + RESTART_S
    problem = tab.page.locator(".answer .problem")
    while problem.is_visible():
        assert time.monotonic() < deadline
        problem.get_by_role("button", name="Try again").click()
        tab.answer()
    return tab.answer().strip()


def one_line(text: str) -> str:
    return " | ".join(text.splitlines())


@dataclass(frozen=True)
class Step:
    name: str
    run: Callable[[Tab, Server], str]
    errors: str = "^$"  # a regular expression of errors that the browser may report


STEPS = (
    Step("the key is entered; controls under Settings", enter_key, "401"),
    Step("experts: speech and text in a picture", experts),
    Step("decoder", pictures),
    Step("detector", nouns),
    Step("tools", tools),
    Step("250,000 points turn", points),
    Step("429: too many requests of the key", many_requests, "429"),
    Step("503: the encoding service is killed", dead_encoders, "503"),
    Step("restart: the engine is killed during an answer", dead_engine, "503|404|ERR_"),
)


def run(context: Any, server: Server, out: Path) -> None:
    print("| step | what the page showed | seconds |\n|---|---|---|")
    with opened(context, server.url, ready=".notice button") as tab:
        for number, step in enumerate(STEPS, 1):
            start = time.monotonic()
            seen = step.run(tab, server)
            print(f"| {step.name} | {seen} | {time.monotonic() - start:.1f} |", flush=True)
            for width, theme in layouts(tab):
                assert layout_faults(tab) == [], (step.name, width, theme)
                tab.page.screenshot(path=out / f"{number}-{width}-{theme}.png", full_page=True)
            tab.clear()
            tab.page.wait_for_load_state("networkidle")
            assert all(re.search(step.errors, each) for each in tab.errors), tab.errors
            tab.errors.clear()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--detector", type=Path, required=True)
    parser.add_argument("--speech-model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("build/page"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        keys, config = Path(folder, "keys"), Path(folder, "settings.yaml")
        keys.write_text(f"{KEY}\n")
        sides = {"speech_model": str(args.speech_model), "detector": str(args.detector)}
        config.write_text(json.dumps({**SETTINGS, **sides, "api_key_file": str(keys)}))
        flags = ["--max-model-len=2048"]
        log, option = args.out / "log", f"--config={config}"
        with (
            serve(args.model, log, option, flags=flags, start_s=START_S) as server,
            chromium() as context,
        ):
            run(context, server, args.out)
