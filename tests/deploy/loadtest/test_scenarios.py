"""The server accepts the valid requests of the load test, and rejects the hostile ones."""

import json
from random import Random

import pytest

from deploy.loadtest.media import Media
from deploy.loadtest.scenarios import (
    HOSTILE,
    MIXES,
    SCENARIOS,
    RequestFactory,
    broken_json,
    conversation,
)
from model_ext.imagebind.preprocess.limits import Limits
from server.media.attachments import AttachmentLimits, message_parts, read_attachments
from server.media.sources import Sources


@pytest.fixture
def factory() -> RequestFactory:
    return RequestFactory(Media.make(0), Random(0), "demo", ["file-0"])


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
def test_the_server_finds_the_attachments(
    name: str, modalities: list[str], factory: RequestFactory
) -> None:
    document = json.loads(SCENARIOS[name](factory).body)
    limits = AttachmentLimits(16, Limits(), 1024)
    attachments = read_attachments(message_parts(document["messages"]), limits, Sources())
    assert [attachment.modality for attachment in attachments] == modalities


def test_a_mix_has_weights(factory: RequestFactory) -> None:
    content = json.loads(SCENARIOS["mixed"](factory).body)["messages"][0]["content"]
    assert [part["weight"] for part in content if part["type"] != "text"] == [0.7, 0.3]


def test_a_conversation_is_long(factory: RequestFactory) -> None:
    assert len(json.loads(conversation(factory).body)["messages"]) == 11


def test_repeated_pictures_repeat_and_others_do_not(factory: RequestFactory) -> None:
    def pictures(name: str) -> set[str]:
        bodies = [json.loads(SCENARIOS[name](factory).body) for _ in range(50)]
        return {body["messages"][0]["content"][0]["image_url"]["url"] for body in bodies}

    assert len(pictures("repeated")) == 4
    assert len(pictures("image")) == 50


@pytest.mark.parametrize("make", HOSTILE, ids=lambda each: each.__name__)
def test_hostile_requests_expect_a_client_error(make: object, factory: RequestFactory) -> None:
    request = make(factory)  # type: ignore[operator]
    if request.disconnect_after_s is None:
        assert all(400 <= status < 500 for status in request.expected)
    if make is broken_json:
        with pytest.raises(json.JSONDecodeError):
            json.loads(request.body)
    else:
        json.loads(request.body)


def test_every_mix_names_scenarios() -> None:
    assert set().union(*MIXES.values()) == set(SCENARIOS)
