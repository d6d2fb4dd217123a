"""The web page in a real browser: questions and answers, with the demonstration's server."""

import json
import re
import sys
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from model_ext.demo.questions import CLIP, CLOUD, MEDIA, PICTURE, WHAT, WORD
from server.api.grounding.search import SearchBox
from tests.serving.demo.browser import (
    CHAT,
    Tab,
    endless,
    event_lines,
    opened,
    run_shell,
    streaming,
)
from tests.serving.launch import Server

pytestmark = pytest.mark.engine

RUNNING = re.compile(r"^vllm:num_requests_running\{.*\} ([0-9.]+)$", re.MULTILINE)


def test_answers_equal_those_of_the_copied_programs(tab: Tab) -> None:
    """The curl and Python programs that the page copies to the clipboard get the page's answer.

    Tested with four files, and with two files together.
    """
    for names in ((PICTURE,), (WORD,), (CLOUD,), (CLIP,), (PICTURE, WORD)):
        tab.add(*names)
        answer = tab.ask(WHAT)
        program = tab.copied("curl")
        assert "file_id" not in program
        response = json.loads(run_shell(program, MEDIA))
        assert response["choices"][0]["message"]["content"] == answer
        assert answer.strip()
        tab.clear()


class SmallClient:
    """Sends the same requests as OpenAI's client. The tests do not use that client, because
    importing it takes seconds of CPU time.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        self.url, self.key = f"{base_url}/chat/completions", api_key
        self.chat = self.completions = self

    def create(self, *, extra_body: dict[str, Any], **fields: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        response = httpx.post(self.url, json=fields | extra_body, headers=headers, timeout=60)
        return json.loads(response.text, object_hook=lambda fields: SimpleNamespace(**fields))


def test_the_copied_python_program_gets_the_same_answer(
    tab: Tab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tab.add(PICTURE)
    tab.set_weight(0, 0.5)
    answer = tab.ask(WHAT)
    program = tab.copied("Python")
    monkeypatch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=SmallClient))
    monkeypatch.chdir(MEDIA)
    exec(program, {})  # noqa: S102
    assert capsys.readouterr().out == f"{answer}\n"


def test_a_weight_of_zero_removes_a_part(tab: Tab) -> None:
    tab.add(WORD)
    alone = tab.ask(WHAT)
    tab.add(PICTURE)
    mixed = tab.ask(WHAT)
    tab.set_weight(1, 0)
    assert tab.ask(WHAT) == alone
    tab.set_weight(1, 1)
    tab.set_weight(0, 0)
    assert tab.ask(WHAT) != alone
    assert mixed.strip()
    tab.page.get_by_role("button", name="Remove").first.click()


def test_the_cache_is_compared_and_explained(tab: Tab) -> None:
    tab.add(WORD)
    tab.page.locator(".segments").get_by_text("Both").click()
    tab.ask(WHAT)
    answers = tab.page.locator(".turn").last.locator(".answer")
    assert answers.count() == 2
    assert "cache on" in answers.nth(0).inner_text()
    assert "cache off" in answers.nth(1).inner_text()
    answers.nth(0).locator(".neighbors summary").click()
    assert answers.nth(0).locator(".ranked li").count() == 10
    assert answers.nth(1).locator(".ranked").count() == 0


def test_an_answer_says_what_was_cached(tab: Tab) -> None:
    tab.add(WORD)
    tab.ask(WHAT)
    tab.page.get_by_role("button", name="New conversation").click()
    tab.ask(WHAT)
    facts = tab.page.locator(".meta").inner_text()
    assert "1 of 1 part encoded before" in facts
    assert re.search(r"\d+ of \d+ prompt tokens reused", facts)


def test_several_answers_and_turns(tab: Tab) -> None:
    """The page sends earlier turns only while the mix stays the same."""
    requests = tab.requests()
    tab.page.get_by_text("Settings", exact=True).click()
    tab.page.get_by_label("Answers").fill("3")
    tab.page.get_by_label("Temperature").first.fill("1")
    tab.page.get_by_label("Maximum tokens").fill("8")
    answer = tab.ask("Hello!")
    assert tab.page.locator(".turn").last.locator(".choice").count() == 3
    tab.ask("And now?")
    roles = [message["role"] for message in requests[-1]["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert requests[-1]["messages"][1]["content"] == answer
    assert "1 earlier question" in tab.page.locator(".question").last.inner_text()
    assert requests[-1]["n"] == 3
    tab.add(PICTURE)
    tab.ask(WHAT)
    assert len(requests[-1]["messages"]) == 1
    assert tab.page.locator(".divider").count() == 1


def test_controls_and_results_of_optional_models(tab: Tab) -> None:
    """The page has controls for experts, pictures, nouns and tools if /v1/models lists them. The
    page shows their results from a stream.
    """
    offered = {"experts": ["speech"], "decoder": True, "detector": True, "tools": True}

    def models(route: Any) -> None:
        response = route.fetch()
        document = response.json()
        document["data"][0]["imagebind"] |= offered
        route.fulfill(response=response, json=document)

    tab.page.route("**/v1/models", models)
    tab.reload()
    tab.add(PICTURE)
    tab.page.get_by_text("Settings", exact=True).click()
    for label in ("Experts read", "Draw a picture", "Search the nouns"):
        tab.page.get_by_label(label).set_checked(True)
    tab.page.get_by_label("Tools").fill('[{"type": "function", "function": {"name": "f"}}]')
    part = "messages[0].content[0]"
    box = SearchBox(0, 0.9, {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}, None).to_json()
    nouns = [
        {"noun": "cat", "part": part, "found": True, "boxes": [box]},
        {"noun": "hat", "part": None, "found": False, "boxes": []},
    ]
    text = {"param": part, "expert": "speech", "state": "on", "text": "<b>hello</b>"}
    pixel = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
    deltas = [
        {"content": "a cat with a hat"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"images": [{"image_url": {"url": pixel}}, {"image_url": {"url": "//evil.example/x"}}]},
        {"grounding": nouns},
    ]
    events: list[Any] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    mix = {"mix": [], "neighbors": [], "cache": "on", "text_only": False, "experts": [text]}
    body = event_lines({"imagebind": mix}, *events)
    requests = tab.requests()
    tab.page.route(CHAT, streaming(f"{body}data: [DONE]\n\n"))
    tab.ask(WHAT)
    sent = requests[-1]
    assert sent["imagebind"]["experts"] == ["speech"]
    assert sent["imagebind"]["ground"] is True
    assert sent["modalities"] == ["text", "image"]
    assert sent["tools"][0]["function"]["name"] == "f"
    answer = tab.page.locator(".answer")
    assert answer.locator(".tool-call").all_text_contents() == ['f {"a": 1}']
    assert answer.locator(".drawn").count() == 1
    assert answer.locator(".nouns .missing bdi").all_text_contents() == ["hat"]
    tab.page.wait_for_selector(".boxes rect")
    drawn = tab.page.locator(".boxes rect")
    sizes = {name: drawn.get_attribute(name) for name in ("x", "y", "width", "height")}
    assert sizes == {"x": "1", "y": "2", "width": "29", "height": "38"}
    assert "<b>hello</b>" in answer.locator(".notes").first.inner_text()


def test_tokens_appear_early_and_stop_aborts_in_the_engine(tab: Tab, server: Server) -> None:
    tab.page.route(CHAT, endless)
    tab.add(PICTURE)
    tab.start(WHAT)
    tab.wait("document.querySelector('[aria-busy=\"true\"] .words')?.textContent.length > 20")
    tab.page.get_by_role("button", name="Stop").click()
    assert "stopped" in tab.page.locator(".meta").inner_text()

    def running() -> float:
        return float(RUNNING.findall(httpx.get(f"{server.url}/metrics").text)[0])

    tab.until(lambda: running() == 0, 1.5)
    tab.page.unroute(CHAT)
    assert tab.ask(WHAT).strip()


def test_two_tabs_at_once(context: Any, server: Server) -> None:
    with opened(context, server.url) as first, opened(context, server.url) as second:
        first.add(PICTURE)
        second.add(CLIP)
        first.start(WHAT)
        second.start(WHAT)
        assert "cat" in first.answer()
        assert "umbrella" in second.answer()
        assert first.errors == second.errors == []


def test_the_encoders_panels(tab: Tab) -> None:
    """The page shows the similarities of all pairs, a search in the cache, and the time line of a
    recording.
    """
    tab.add(PICTURE, WORD)
    tab.page.get_by_role("tab", name="Similarity").click()
    tab.page.get_by_role("button", name="Compare").click()
    tab.page.wait_for_selector(".matrix")
    cells = tab.page.locator(".matrix tbody td").all_inner_texts()
    assert len(cells) == 9
    assert cells[0] == cells[4] == cells[8] == "1.00"
    assert cells[1] == cells[3] != "1.00"
    tab.page.get_by_role("tab", name="Search").click()
    tab.page.get_by_role("button", name="Search").click()
    tab.page.wait_for_selector(".ranked")
    figures = [float(each) for each in tab.page.locator(".ranked .figure").all_inner_texts()]
    assert len(figures) == 10
    assert figures == sorted(figures, reverse=True)
    tab.page.get_by_role("tab", name="Time line").click()
    tab.page.locator(".explore .field").fill("a penguin")
    tab.page.get_by_role("button", name="Show").click()
    tab.page.wait_for_selector(".window")
    assert tab.page.locator(".window").count() >= 1
