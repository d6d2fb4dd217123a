"""The web page in a real browser: layout, keyboard, accessibility, hostile texts and points."""

import io
from typing import Any

import numpy as np
import pytest

from model_ext.demo.questions import CLOUD, PICTURE, WHAT, WORD
from tests.serving.demo.browser import CHAT, Tab, event_lines, opened, streaming
from tests.serving.demo.hostile import HOSTILE
from tests.serving.demo.layout import layout_faults, layouts
from tests.serving.launch import Server

pytestmark = pytest.mark.engine

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_first_question_by_keyboard_alone(tab: Tab) -> None:
    def focus(name: str) -> None:
        for _ in range(40):
            tab.page.keyboard.press("Tab")
            focused = tab.page.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.textContent"
            )
            if focused == name:
                return
        pytest.fail(f"{name} cannot be reached with the Tab key")

    tab.page.wait_for_selector(".examples")
    focus(PICTURE)
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector(".card")
    tab.uploaded()
    focus("Question")
    tab.page.keyboard.type(WHAT)
    tab.page.keyboard.press("Enter")
    assert "cat" in tab.answer()
    assert tab.page.evaluate("document.activeElement.ariaLabel") == "Question"


def test_layout_and_accessibility(tab: Tab) -> None:
    """At three window widths and in two themes, no elements overlap and no element is wider than
    the window. axe-core reports no serious fault.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    tab.page.wait_for_selector(".examples")
    assert layout_faults(tab) == []
    tab.add(PICTURE, WORD, CLOUD)
    tab.ask(WHAT)
    tab.page.get_by_text("Settings", exact=True).click()
    tab.page.locator(".neighbors summary").click()
    for width, theme in layouts(tab):
        assert layout_faults(tab) == [], (width, theme)
        if (width, theme) in ((360, "dark"), (1440, "light")):
            results = axe.run(tab.page).response["violations"]
            serious = [each for each in results if each["impact"] in ("serious", "critical")]
            assert [(each["id"], each["nodes"][0]["html"]) for each in serious] == []


def test_hostile_texts_stay_texts(context: Any, server: Server) -> None:
    """File names, captions, answers and errors are shown as text. The browser creates no element
    from them and runs no script.
    """
    with opened(context, server.url, 360) as tab:
        for start in range(0, len(HOSTILE), 14):
            texts = HOSTILE[start : start + 14]
            names = [text.replace("/", "∕").replace("\0", "") for text in texts]
            tab.drop(*((name, PNG + name.encode()) for name in names))
            assert tab.page.locator(".card .name").all_text_contents() == names
            rows = [{"row": 1, "similarity": 0.5, "caption": text} for text in texts]
            explanation = {"cache": "on", "neighbors": rows, "mix": [], "text_only": False}
            choices = [{"index": 0, "delta": {"content": text}} for text in texts]
            events = [{"imagebind": explanation, "choices": [choice]} for choice in choices]
            error = {"error": {"message": "".join(texts), "type": "x", "param": None, "code": "y"}}
            tab.page.route(CHAT, streaming(event_lines(*events, error)))
            tab.uploaded()
            shown = tab.ask(texts[0])
            assert shown == "".join(texts)
            tab.page.locator(".neighbors summary").last.click()
            captions = tab.page.locator(".ranked .caption").all_text_contents()
            assert captions == list(texts)
            assert layout_faults(tab) == []
            assert tab.page.locator("script, iframe, object, base, style, math").count() == 1
            tab.page.unroute(CHAT)
            tab.clear()
        assert tab.page.evaluate("window.hacked") is None
        assert tab.errors == []


def test_points_are_drawn_and_turned(tab: Tab) -> None:
    cloud = io.BytesIO()
    np.save(cloud, np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32))
    tab.drop(("cloud.npy", cloud.getvalue()))
    assert tab.page.locator(".cloud").count() == 0  # a .npy file may also have another modality
    tab.page.locator(".kind select").select_option("point")
    tab.page.wait_for_selector(".cloud[data-frames]")
    assert "2,000 points" in tab.page.locator(".cloud-note").inner_text()
    canvas = tab.page.locator(".cloud")
    first = canvas.screenshot()
    canvas.press("ArrowRight")
    tab.until(lambda: canvas.screenshot() != first, 10)
