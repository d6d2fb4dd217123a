"""Use the web page in Debian's Chromium, and record errors that the browser reports.

All functions wait for conditions, with a limit of time after which they fail.
"""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from model_ext.demo.questions import MEDIA
from tests.serving.launch import Server

CONNECTED = ".workspace"  # The page shows this element when it has read what the server offers.
CHAT = "**/v1/chat/completions"
CHROMIUM = shutil.which("chromium")
FLAGS = ["--enable-unsafe-swiftshader", "--use-fake-device-for-media-stream"]
FLAGS += ["--use-fake-ui-for-media-stream", "--disable-dev-shm-usage"]
DROP = """
async (files) => {
  const transfer = new DataTransfer();
  for (const [name, data] of files) {
    const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
  }
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}
"""


@dataclass
class Tab:
    """One browser tab with the page, and the faults that the browser reports about it."""

    page: Any
    errors: list[str] = field(default_factory=list)

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Wait until a condition is true. The browser's events are handled meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"the condition stayed false; {self.errors}"
            self.page.wait_for_timeout(50)

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression is true. Playwright's own function for waiting does not work
        here, because the page's Content Security Policy forbids how it evaluates the expression.
        """
        self.until(lambda: self.page.evaluate(expression), seconds)

    def connected(self) -> None:
        """Wait until the page shows the controls for what the server offers."""
        self.page.wait_for_selector(CONNECTED)

    def reload(self) -> None:
        self.page.reload()
        self.connected()

    def rejected(self, status: int, count: int = 1) -> None:
        """Wait until the browser has reported `count` responses with this status and nothing else,
        and forget these reports.
        """
        self.until(lambda: len(self.errors) >= count)
        assert all(str(status) in error for error in self.errors), self.errors
        self.errors.clear()

    def add(self, *names: str) -> None:
        """Drop files of the demonstration, and wait until they are uploaded."""
        self.drop(*((name, (MEDIA / name).read_bytes()) for name in names))
        self.uploaded()

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Drop files, given as (name, content), and wait until their cards appear."""
        expected = self.page.locator(".card").count() + len(files)
        self.page.evaluate(DROP, [[name, base64.b64encode(data).decode()] for name, data in files])
        self.wait(f"document.querySelectorAll('.card').length == {expected}")

    def uploaded(self) -> None:
        """Wait until no upload runs."""
        self.wait("![...document.querySelectorAll('.upload')].some((each) => !each.hidden)")

    def ask(self, question: str, press: str = "Enter") -> str:
        """Ask a question, and return the text of the answer's first choice."""
        self.start(question, press)
        return self.answer()

    def start(self, question: str, press: str = "Enter") -> None:
        field = self.page.locator(".question-field")
        field.fill(question)
        turns = self.page.locator(".turn").count()
        field.press(press)
        self.wait(f"document.querySelectorAll('.turn').length == {turns + 1}")

    def answer(self) -> str:
        self.wait("!document.querySelector('.answer[aria-busy=\"true\"]')")
        words = self.page.locator(".turn").last.locator(".words").first
        text: str = words.evaluate("element => element.textContent")
        return text

    def requests(self) -> list[Any]:
        """Return a list, to which the JSON of each question is added that the page sends later."""
        sent: list[Any] = []

        def note(request: Any) -> None:
            if request.url.endswith("/chat/completions"):
                sent.append(request.post_data_json)

        self.page.on("request", note)
        return sent

    def copied(self, name: str) -> str:
        self.page.evaluate("navigator.clipboard.writeText('')")
        self.page.get_by_role("button", name=f"Copy as {name}").last.click()
        self.wait("navigator.clipboard.readText()")
        text: str = self.page.evaluate("navigator.clipboard.readText()")
        return text

    def clear(self) -> None:
        """Remove all parts, and start a new conversation."""
        while self.page.locator(".card").count():
            self.page.get_by_role("button", name="Remove").first.click()
        self.page.get_by_role("button", name="New conversation").click()

    def set_weight(self, index: int, weight: float) -> None:
        slider = self.page.locator(".slider").nth(index)
        slider.evaluate(
            "(element, value) => {element.value = value;"
            " element.dispatchEvent(new Event('input', {bubbles: true}))}",
            weight,
        )


@contextmanager
def chromium(*more: str) -> Iterator[Any]:
    """Start Chromium, and yield the context of its tabs, which share a cache of the page's files.

    `more`: further flags; with --ozone-platform, Chromium has a window. Skips the tests if
    playwright or Chromium is missing.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium (Debian's package `chromium`) is not installed")
    flags = [*FLAGS, *more, *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    window = any(flag.startswith("--ozone-platform") for flag in more)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=flags, headless=not window
        )
        context = browser.new_context(
            permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce"
        )
        context.set_default_timeout(60_000)
        yield context
        browser.close()


@contextmanager
def opened(context: Any, url: str, width: int = 1440, ready: str = CONNECTED) -> Iterator[Tab]:
    """Open the page in a new tab, and wait for the element `ready`."""
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": 900})
    tab = Tab(page)
    page.on("pageerror", lambda error: tab.errors.append(str(error)))
    page.on("dialog", lambda dialog: tab.errors.append(f"dialog: {dialog.message}"))
    page.on(
        "console",
        lambda entry: tab.errors.append(entry.text) if entry.type == "error" else None,
    )
    page.goto(url)
    page.wait_for_selector(ready)
    try:
        yield tab
    finally:
        page.close()


def run_shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def streaming(body: str) -> Callable[[Any], None]:
    """Make a handler that answers with these events instead of the server."""

    def fulfill(route: Any) -> None:
        route.fulfill(content_type="text/event-stream", body=body)

    return fulfill


def endless(route: Any) -> None:
    """Change the request so that the model generates until max_tokens."""
    body = json.loads(route.request.post_data) | {"ignore_eos": True, "max_tokens": 1800}
    route.continue_(post_data=json.dumps(body))


def event_lines(*events: Any) -> str:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events)


def stored(server: Server) -> set[str]:
    """Return the ids of the files that clients have stored."""
    return {file["id"] for file in httpx.get(f"{server.url}/v1/files").json()["data"]}
