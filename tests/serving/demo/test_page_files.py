"""The web page in a real browser: files, and errors of the server and of the connection."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from model_ext.demo.questions import CLIP, MEDIA, PICTURE, WHAT, WORD
from tests.serving.demo.browser import CHAT, Tab, event_lines, opened, stored, streaming
from tests.serving.launch import Server

pytestmark = pytest.mark.engine

PNG = b"\x89PNG\r\n\x1a\n"
SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4_000_000}
# JavaScript that records each state of the button that repeats a question.
RECORD_BUTTON = """
() => {
  window.states = [];
  new MutationObserver(() => {
    const button = document.querySelector(".answer .problem button");
    if (button) window.states.push([button.textContent, button.disabled]);
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}
"""


def incoming(uploads: Path) -> list[Path]:
    """Return the files of unfinished uploads."""
    return [path for path in uploads.rglob("incoming-*") if path.is_file()]


def test_files_are_deleted_with_their_part_and_with_the_tab(context: Any, server: Server) -> None:
    before = stored(server)
    with opened(context, server.url) as tab:
        tab.add(PICTURE, WORD)
        assert len(stored(server) - before) == 2
        tab.page.get_by_role("button", name="Remove").first.click()
        tab.until(lambda: len(stored(server) - before) == 1, 5)
        tab.page.reload()
        tab.until(lambda: stored(server) <= before, 5)


def test_a_file_that_the_server_has_lost_is_uploaded_again(tab: Tab, server: Server) -> None:
    tab.add(PICTURE)
    answer = tab.ask(WHAT)
    lose_files(server)
    tab.page.get_by_role("button", name="New conversation").click()
    assert tab.ask(WHAT) == answer
    lose_files(server)
    tab.page.get_by_role("tab", name="Search").click()
    tab.page.get_by_role("button", name="Search").click()
    tab.page.wait_for_selector(".result .ranked")
    tab.rejected(404, count=4)  # twice: the request, and the deletion of the old file


def lose_files(server: Server) -> None:
    for file_id in stored(server):
        httpx.delete(f"{server.url}/v1/files/{file_id}")


def test_a_large_upload_is_cancelled_or_ends_with_a_reload(
    tab: Tab, server: Server, uploads: Path, tmp_path: Path
) -> None:
    video = tmp_path / "large.mp4"
    with video.open("wb") as file:
        file.write((MEDIA / CLIP).read_bytes())
        file.truncate(90_000_000)
    before = stored(server)
    network = tab.page.context.new_cdp_session(tab.page)
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", SLOW)
    for end in (
        lambda: tab.page.get_by_role("button", name="Remove").click(),
        lambda: tab.page.reload(),
    ):
        tab.page.locator("input[type=file]").set_input_files(video)
        tab.wait("document.querySelector('.upload progress')?.value > 0.01")
        assert tab.page.locator(".upload progress").evaluate("bar => bar.value") < 1
        tab.until(lambda: incoming(uploads), 10)
        end()
        tab.until(lambda: not incoming(uploads), 10)
    assert stored(server) <= before


def test_the_conversation_does_not_wait_for_a_slow_upload(tab: Tab, tmp_path: Path) -> None:
    """Stop ends an answer that waits for an upload, and so does the removal of the part."""
    video = tmp_path / "large.mp4"
    with video.open("wb") as file:
        file.truncate(90_000_000)
    network = tab.page.context.new_cdp_session(tab.page)
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", SLOW)
    tab.page.locator("input[type=file]").set_input_files(video)
    tab.start(WHAT)
    tab.page.get_by_role("button", name="Stop").click()
    tab.answer()
    assert tab.page.locator(".meta").inner_text() == "stopped"
    tab.start(WHAT)
    tab.page.get_by_role("button", name="Remove").click()
    tab.answer()
    assert "no longer in the mix" in tab.page.locator(".answer .problem").last.inner_text()
    assert tab.ask("Hello!").strip()


def test_a_file_that_is_too_large_is_not_uploaded(tab: Tab, tmp_path: Path) -> None:
    picture = tmp_path / "large.png"
    with picture.open("wb") as file:
        file.truncate(21 << 20)
    requests: list[str] = []
    tab.page.on("request", lambda request: requests.append(request.url))
    tab.page.locator("input[type=file]").set_input_files(picture)
    tab.page.wait_for_selector(".card .problem:not([hidden])")
    assert "20 MiB" in tab.page.locator(".card .problem").inner_text()
    assert not [url for url in requests if url.endswith("/v1/files")]


def test_a_recorded_sound_and_a_picture_of_the_camera(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Record").click()
    tab.wait("parseFloat(document.querySelector('.clock')?.textContent) >= 0.5")
    tab.page.get_by_role("button", name="Stop and use").click()
    tab.page.wait_for_selector(".card")
    tab.page.get_by_role("button", name="Camera").click()
    tab.wait("document.querySelector('.camera')?.videoWidth > 0")
    tab.page.get_by_role("button", name="Take the picture").click()
    tab.wait("document.querySelectorAll('.card').length == 2")
    tab.uploaded()
    assert tab.ask(WHAT).strip()
    kinds = tab.page.locator(".card").evaluate_all(
        "all => all.map((each) => each.dataset.modality)"
    )
    assert kinds == ["audio", "image"]


def test_errors_appear_at_the_part_that_caused_them(tab: Tab) -> None:
    tab.add(PICTURE)
    tab.drop(("broken.png", PNG + b"broken"))
    tab.uploaded()
    tab.ask(WHAT)
    problems = tab.page.locator(".card .problem")
    assert not problems.nth(0).is_visible()
    assert problems.nth(1).inner_text() in tab.page.locator(".answer .problem").inner_text()
    tab.page.get_by_role("button", name="Remove broken.png").click()
    assert tab.ask(WHAT).strip()
    tab.rejected(400)


def test_a_full_server_says_when_to_try_again(tab: Tab) -> None:
    error = {"message": "too many requests at a time", "type": "x", "param": None, "code": "y"}
    tab.page.route(
        CHAT,
        lambda route: route.fulfill(
            status=503, headers={"Retry-After": "1"}, json={"error": error}
        ),
    )
    tab.page.evaluate(RECORD_BUTTON)
    tab.ask(WHAT)
    assert error["message"] in tab.page.locator(".answer .problem").inner_text()
    tab.page.unroute(CHAT)
    tab.page.get_by_role("button", name="Try again").click()  # waits until the button is enabled
    assert tab.page.evaluate("states[0]") == ["Try again in 1 s", True]
    assert tab.answer().strip()
    tab.rejected(503)


def test_a_lost_stream_leaves_the_conversation_usable(tab: Tab) -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "half an"}}]}
    tab.page.route(CHAT, streaming(event_lines(event)))
    tab.ask(WHAT)
    assert "lost" in tab.page.locator(".answer .problem").inner_text()
    tab.page.unroute(CHAT)
    requests = tab.requests()
    assert tab.ask("Hello!").strip()
    assert len(requests[-1]["messages"]) == 1


def test_a_key_is_kept_for_the_tab_only(tab: Tab) -> None:
    def check(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer sk-right":
            return route.continue_()
        error = {"message": "a valid API key is needed", "type": "x", "param": None, "code": "y"}
        return route.fulfill(status=401, json={"error": error})

    tab.page.route("**/v1/**", check)
    tab.page.reload()
    tab.page.get_by_role("button", name="Enter a key").click()
    tab.page.keyboard.type("sk-right")
    tab.page.keyboard.press("Enter")
    tab.connected()
    tab.add(PICTURE)
    tab.ask(WHAT)
    assert "sk-right" not in tab.copied("curl")
    kept = tab.page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie]")
    assert kept == [{"bindserve-key": "sk-right"}, {}, ""]
    tab.rejected(401)
