"""The web page in a real browser, with the demonstration's server."""

import io
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from model_ext.demo.questions import CLIP, CLOUD, MEDIA, PICTURE, WHAT, WORD
from server.api.grounding.search import SearchBox
from tests.serving.demo.browser import LAYOUT_FAULTS, Tab, chromium, opened, run_shell
from tests.serving.launch import Server

pytestmark = pytest.mark.engine

PNG = b"\x89PNG\r\n\x1a\n"
CHAT = "**/v1/chat/completions"
RUNNING = re.compile(r"^vllm:num_requests_running\{.*\} ([0-9.]+)$", re.MULTILINE)
HOSTILE = (
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg onload=window.hacked=1>",
    "<iframe srcdoc='<script>parent.hacked = 1</script>'>",
    "<a href='javascript:window.hacked=1'>click</a>",
    "<style>* { display: none }</style>",
    "</textarea><script>hacked = 1</script>",
    '"><script>hacked = 1</script>',
    "' onmouseover='hacked = 1",
    "<math><mtext><script>hacked=1</script></mtext></math>",
    "<base href='//evil.example/'>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<form action=//evil.example><input name=q autofocus onfocus=hacked=1>",
    "<object data='data:text/html,<script>hacked=1</script>'></object>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "${window.hacked = 1}",
    "{{constructor.constructor('hacked=1')()}}",
    "javascript:window.hacked=1",
    "data:text/html,<script>hacked=1</script>",
    "`; window.hacked = 1; `",
    "\\u003cscript\\u003ehacked=1\\u003c/script\\u003e",
    "&lt;script&gt;hacked=1&lt;/script&gt;",
    "<!--<script>hacked=1</script>-->",
    "]]><script>hacked=1</script>",
    "\u202egnp.exe\u202d right to left",
    "\u2066\u2067\u2068 unclosed isolates",
    "zero\u200bwidth\u200djoiners\ufeff" * 20,
    "a" * 4000,
    "word " * 800,
    "\n" * 300 + "far below",
    "Z̸̡̢̛͚͓̗̬̥͇̲̱̪̓̈́̍͊̔̽̚͝a̴̢̫͎̬͍͉̪͔͗̃̐̅́͐l̸͉̫̻̝͎͌̏̇̀̍͆̒͘g̷̨̙͙͈̱̹̟̞͌̃̑͛̔͋̐͠o̴" * 12,
    "🏳️‍🌈👩‍👩‍👧‍👦" * 60,
    "ﷺ" * 60,
    "𒐫" * 120,
    "مرحبا بالعالم " * 30,
    "x" * 90 + ".png<img src=1 onerror=hacked=1>",
    "'; rm -rf ~; echo '",
    '$(touch hacked) `touch hacked` "; touch hacked; "',
    "../../etc/passwd%00.png",
    "\t\v\f control \x07\x1b[31m characters",
)


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with chromium() as context:
        yield context


@pytest.fixture
def tab(context: Any, server: Server) -> Iterator[Tab]:
    with opened(context, server.url) as tab:
        yield tab
        assert tab.errors == []


def add(tab: Tab, *names: str) -> None:
    tab.drop(*((name, (MEDIA / name).read_bytes()) for name in names))
    tab.uploaded()


def incoming(uploads: Path) -> list[Path]:
    """Return the files of unfinished uploads."""
    return [path for path in uploads.rglob("incoming-*") if path.is_file()]


def stored(server: Server) -> list[Any]:
    files: list[Any] = httpx.get(f"{server.url}/v1/files").json()["data"]
    return files


def until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_answers_equal_those_of_the_copied_programs(tab: Tab) -> None:
    """The curl and Python programs that the page copies to the clipboard get the page's answer.

    Tested with four files, and with two files together.
    """
    for names in ((PICTURE,), (WORD,), (CLOUD,), (CLIP,), (PICTURE, WORD)):
        add(tab, *names)
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
    add(tab, PICTURE)
    tab.set_weight(0, 0.5)
    answer = tab.ask(WHAT)
    program = tab.copied("Python")
    monkeypatch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=SmallClient))
    monkeypatch.chdir(MEDIA)
    exec(program, {})  # noqa: S102
    assert capsys.readouterr().out == f"{answer}\n"


def test_a_weight_of_zero_removes_a_part(tab: Tab) -> None:
    add(tab, WORD)
    alone = tab.ask(WHAT)
    add(tab, PICTURE)
    mixed = tab.ask(WHAT)
    tab.set_weight(1, 0)
    assert tab.ask(WHAT) == alone
    tab.set_weight(1, 1)
    tab.set_weight(0, 0)
    assert tab.ask(WHAT) != alone
    assert mixed.strip()
    tab.page.get_by_role("button", name="Remove").first.click()


def test_the_cache_is_compared_and_explained(tab: Tab) -> None:
    add(tab, WORD)
    tab.page.locator(".segments").get_by_text("Compare").click()
    tab.ask(WHAT)
    answers = tab.page.locator(".turn").last.locator(".answer")
    assert answers.count() == 2
    assert "cache on" in answers.nth(0).inner_text()
    assert "cache off" in answers.nth(1).inner_text()
    answers.nth(0).locator(".neighbors summary").click()
    assert answers.nth(0).locator(".ranked li").count() == 10
    assert answers.nth(1).locator(".ranked").count() == 0


def questions(tab: Tab) -> list[Any]:
    """Return a list. The JSON of each question that the page sends from now on is added to it."""
    sent: list[Any] = []

    def note(request: Any) -> None:
        if request.url.endswith("/chat/completions"):
            sent.append(request.post_data_json)

    tab.page.on("request", note)
    return sent


def test_several_answers_and_turns(tab: Tab) -> None:
    """The page sends earlier turns only while the mix stays the same."""
    requests = questions(tab)
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
    assert requests[-1]["n"] == 3
    add(tab, PICTURE)
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
    tab.page.reload()
    add(tab, PICTURE)
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
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in [{"imagebind": mix}, *events])
    requests = questions(tab)
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


def streaming(body: str) -> Callable[[Any], None]:
    """Make a handler that answers with these events instead of the server."""

    def fulfill(route: Any) -> None:
        route.fulfill(content_type="text/event-stream", body=body)

    return fulfill


def endless(route: Any) -> None:
    """Change the request so that the model generates until max_tokens."""
    body = json.loads(route.request.post_data) | {"ignore_eos": True}
    route.continue_(post_data=json.dumps(body))


def test_tokens_appear_early_and_stop_aborts_in_the_engine(tab: Tab, server: Server) -> None:
    tab.page.route(CHAT, endless)
    add(tab, PICTURE)
    tab.start(WHAT)
    tab.wait("document.querySelector('.words').textContent.length > 20")
    assert tab.page.locator('.answer[aria-busy="true"]').count() == 1
    tab.page.get_by_role("button", name="Stop").click()
    assert "stopped" in tab.page.locator(".meta").inner_text()

    def running() -> float:
        return float(RUNNING.findall(httpx.get(f"{server.url}/metrics").text)[0])

    until(lambda: running() == 0, 1.5)
    tab.page.unroute(CHAT)
    assert tab.ask(WHAT).strip()


def test_two_tabs_at_once(context: Any, server: Server) -> None:
    with opened(context, server.url) as first, opened(context, server.url) as second:
        add(first, PICTURE)
        add(second, CLIP)
        first.start(WHAT)
        second.start(WHAT)
        assert "cat" in first.answer()
        assert "umbrella" in second.answer()
        assert first.errors == second.errors == []


def test_files_are_deleted_with_their_part_and_with_the_tab(context: Any, server: Server) -> None:
    before = len(stored(server))
    with opened(context, server.url) as tab:
        add(tab, PICTURE, WORD)
        assert len(stored(server)) == before + 2
        tab.page.get_by_role("button", name="Remove").first.click()
        until(lambda: len(stored(server)) == before + 1, 5)
        tab.page.reload()
        until(lambda: len(stored(server)) == before, 5)


def test_a_file_that_the_server_has_lost_is_uploaded_again(tab: Tab, server: Server) -> None:
    add(tab, PICTURE)
    answer = tab.ask(WHAT)
    for file in stored(server):
        httpx.delete(f"{server.url}/v1/files/{file['id']}")
    tab.page.get_by_role("button", name="New conversation").click()
    assert tab.ask(WHAT) == answer
    assert all("404" in error for error in tab.errors)
    tab.errors.clear()


def test_a_large_upload_is_cancelled_or_ends_with_a_reload(
    tab: Tab, server: Server, uploads: Path, tmp_path: Path
) -> None:
    video = tmp_path / "large.mp4"
    with video.open("wb") as file:
        file.write((MEDIA / CLIP).read_bytes())
        file.truncate(90_000_000)
    before = len(stored(server))
    network = tab.page.context.new_cdp_session(tab.page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 4_000_000}
    network.send("Network.emulateNetworkConditions", slow)
    for end in (
        lambda: tab.page.get_by_role("button", name="Remove").click(),
        lambda: tab.page.reload(),
    ):
        tab.page.locator("input[type=file]").set_input_files(video)
        tab.wait("document.querySelector('.upload progress')?.value > 0.01")
        assert tab.page.locator(".upload progress").evaluate("bar => bar.value") < 1
        until(lambda: incoming(uploads), 10)
        end()
        until(lambda: not incoming(uploads), 10)
    assert len(stored(server)) == before


def test_a_file_that_is_too_large_is_not_uploaded(tab: Tab, tmp_path: Path) -> None:
    picture = tmp_path / "large.png"
    with picture.open("wb") as file:
        file.truncate(21 << 20)
    requests: list[str] = []
    tab.page.on("request", lambda request: requests.append(request.url))
    tab.page.locator("input[type=file]").set_input_files(picture)
    assert "20 MiB" in tab.page.locator(".card .problem").inner_text()
    assert not [url for url in requests if url.endswith("/v1/files")]


def test_errors_appear_at_the_part_that_caused_them(tab: Tab) -> None:
    add(tab, PICTURE)
    tab.drop(("broken.png", PNG + b"broken"))
    tab.uploaded()
    tab.ask(WHAT)
    problems = tab.page.locator(".card .problem")
    assert not problems.nth(0).is_visible()
    assert problems.nth(1).inner_text() in tab.page.locator(".answer .problem").inner_text()
    tab.page.get_by_role("button", name="Remove broken.png").click()
    assert tab.ask(WHAT).strip()
    assert len(tab.errors) == 1
    assert "400" in tab.errors.pop()


def test_a_full_server_says_when_to_try_again(tab: Tab) -> None:
    error = {"message": "too many requests at a time", "type": "x", "param": None, "code": "y"}
    tab.page.route(
        CHAT,
        lambda route: route.fulfill(
            status=503, headers={"Retry-After": "1"}, json={"error": error}
        ),
    )
    tab.ask(WHAT)
    assert error["message"] in tab.page.locator(".answer .problem").inner_text()
    retry = tab.page.get_by_role("button", name="Try again")
    assert retry.is_disabled()
    assert "1 s" in retry.inner_text()
    tab.page.unroute(CHAT)
    retry.click()
    assert tab.answer().strip()
    assert len(tab.errors) == 1
    assert "503" in tab.errors.pop()


def test_a_lost_stream_leaves_the_conversation_usable(tab: Tab) -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "half an"}}]}
    tab.page.route(CHAT, streaming(f"data: {json.dumps(event)}\n\n"))
    tab.ask(WHAT)
    assert "lost" in tab.page.locator(".answer .problem").inner_text()
    tab.page.unroute(CHAT)
    requests = questions(tab)
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
    tab.page.wait_for_selector(".layout > *")  # before that, nothing takes dropped files
    add(tab, PICTURE)
    tab.ask(WHAT)
    assert "sk-right" not in tab.copied("curl")
    kept = tab.page.evaluate("[{...sessionStorage}, {...localStorage}, document.cookie]")
    assert kept == [{"bindserve-key": "sk-right"}, {}, ""]
    assert all("401" in error for error in tab.errors)
    tab.errors.clear()


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

    focus(PICTURE)  # an example
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
    assert tab.page.evaluate(LAYOUT_FAULTS) == []
    add(tab, PICTURE, WORD, CLOUD)
    tab.ask(WHAT)
    tab.page.get_by_text("Settings", exact=True).click()
    tab.page.locator(".neighbors summary").click()
    for width, theme in product((360, 768, 1440), ("light", "dark")):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.emulate_media(color_scheme=theme)
        tab.wait(f"document.documentElement.dataset.theme == '{theme}'")
        assert tab.page.evaluate(LAYOUT_FAULTS) == [], (width, theme)
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
            lines = [f"data: {json.dumps(event)}\n\n" for event in [*events, error]]
            tab.page.route(CHAT, streaming("".join(lines)))
            tab.uploaded()
            shown = tab.ask(texts[0])
            assert shown == "".join(texts)
            tab.page.locator(".neighbors summary").last.click()
            captions = tab.page.locator(".ranked .caption").all_text_contents()
            assert captions == list(texts)
            faults = tab.page.evaluate(LAYOUT_FAULTS)
            assert faults == []
            assert tab.page.locator("script, iframe, object, base, style, math").count() == 1
            tab.page.unroute(CHAT)
            tab.clear()
        assert tab.page.evaluate("window.hacked") is None
        assert tab.errors == []


def test_the_encoders_panels(tab: Tab) -> None:
    """The page shows the similarities of all pairs, a search in the cache, and the time line of a
    recording.
    """
    add(tab, PICTURE, WORD)
    tab.page.get_by_role("tab", name="Compare").click()
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
    tab.wait("Number(document.querySelector('.cloud').dataset.frames) > 1")
    assert canvas.screenshot() != first


def test_a_recorded_sound_and_a_picture_of_the_camera(tab: Tab) -> None:
    tab.page.get_by_role("button", name="Record").click()
    tab.page.wait_for_timeout(700)
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
