"""Use the web page in Debian's Chromium, and record errors that the browser reports."""

import base64
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

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
# JavaScript that lists controls which overlap, and elements that are wider than the window.
LAYOUT_FAULTS = """
() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) faults.push(`the page is ${root.scrollWidth} px wide`);
  const selector = "button, input, select, textarea, summary, h2, bdi, p";
  const visible = [...document.querySelectorAll(selector)].filter((each) =>
    each.checkVisibility({opacityProperty: true})
      && !each.closest(".visually-hidden, .skip, .toast, .veil, dialog"));
  const boxes = visible.map((each) => [each, each.getBoundingClientRect()]).filter(
    ([, box]) => box.width && box.height);
  for (const [each, box] of boxes) {
    if (box.right > innerWidth + 1 && !each.closest(".scroll, .tabs"))
      faults.push(`${each.tagName} ${each.className} ends at ${box.right}`);
  }
  const sticky = (each) => Boolean(each.closest(".composer"));
  const pairs = boxes.flatMap((one, index) => boxes.slice(index + 1).map((two) => [one, two]));
  for (const [[a, first], [b, second]] of pairs) {
    if (a.contains(b) || b.contains(a) || sticky(a) !== sticky(b)) continue;
    const width = Math.min(first.right, second.right) - Math.max(first.left, second.left);
    const height = Math.min(first.bottom, second.bottom) - Math.max(first.top, second.top);
    if (width > 2 && height > 2)
      faults.push(`${a.tagName} ${a.className} overlaps ${b.tagName} ${b.className}`);
  }
  return faults;
}
"""


@dataclass
class Tab:
    """One browser tab with the page, and the faults that the browser reports about it."""

    page: Any
    errors: list[str] = field(default_factory=list)

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until an expression is true. Playwright's own function for waiting does not work
        here, because the page's Content Security Policy forbids how it evaluates the expression.
        """
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression}; {self.errors}"
            self.page.wait_for_timeout(50)

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

    def copied(self, name: str) -> str:
        self.page.get_by_role("button", name=f"Copy as {name}").last.click()
        self.page.wait_for_selector(".toast:not([hidden])")
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
def chromium() -> Iterator[Any]:
    """Start Chromium, and yield the context of its tabs, which share a cache of the page's files.

    Skips the tests if playwright or Chromium is missing.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium (Debian's package `chromium`) is not installed")
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        context = browser.new_context(
            permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce"
        )
        context.set_default_timeout(60_000)
        yield context
        browser.close()


@contextmanager
def opened(context: Any, url: str, width: int = 1440) -> Iterator[Tab]:
    """Open the page in a new tab."""
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
    page.wait_for_selector(".layout > *")
    try:
        yield tab
    finally:
        page.close()


def run_shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout
