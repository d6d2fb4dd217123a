"""Each scenario is a request as the server wants it, or one that it must refuse."""

import json
from random import Random

import pytest

from deploy.loadtest.media import Media
from deploy.loadtest.scenarios import HOSTILE, MIXES, SCENARIOS, Workshop, broken_json, conversation
from model_ext.imagebind.preprocess.limits import Limits
from server.media.attachments import AttachmentLimits, take_from_messages
from server.media.sources import Sources


@pytest.fixture
def shop() -> Workshop:
    return Workshop(Media.make(0), Random(0), "demo", ["file-0"])


@pytest.mark.parametrize(
    ("name", "modalities"),
    [
        ("text", []),
        ("image", ["image"]),
        ("audio", ["audio"]),
        ("video", ["video"]),
        ("point_cloud", ["point"]),
        ("repeated", ["image"]),
        ("conversation", ["image"]),
    ],
)
def test_the_server_finds_the_attachments(name: str, modalities: list[str], shop: Workshop) -> None:
    document = json.loads(SCENARIOS[name](shop).body)
    limits = AttachmentLimits(16, Limits(), 1024)
    found = take_from_messages(document["messages"], limits, Sources())
    assert [attachment.modality for attachment in found] == modalities


def test_a_mix_has_weights(shop: Workshop) -> None:
    content = json.loads(SCENARIOS["mixed"](shop).body)["messages"][0]["content"]
    assert [part["weight"] for part in content if part["type"] != "text"] == [0.7, 0.3]


def test_a_conversation_is_long(shop: Workshop) -> None:
    assert len(json.loads(conversation(shop).body)["messages"]) == 11


def test_repeated_pictures_repeat_and_others_do_not(shop: Workshop) -> None:
    def pictures(name: str) -> set[str]:
        bodies = [json.loads(SCENARIOS[name](shop).body) for _ in range(50)]
        return {body["messages"][0]["content"][0]["image_url"]["url"] for body in bodies}

    assert len(pictures("repeated")) == 4
    assert len(pictures("image")) == 50


@pytest.mark.parametrize("make", HOSTILE, ids=lambda each: each.__name__)
def test_hostile_requests_say_how_they_must_end(make: object, shop: Workshop) -> None:
    ask = make(shop)  # type: ignore[operator]
    if ask.leaves_after is None:
        assert all(400 <= status < 500 for status in ask.expected)
    if make is broken_json:
        with pytest.raises(json.JSONDecodeError):
            json.loads(ask.body)
    else:
        json.loads(ask.body)


def test_every_mix_names_scenarios() -> None:
    assert set().union(*MIXES.values()) == set(SCENARIOS)
