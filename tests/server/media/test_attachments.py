"""Attachments that are read from content parts of every type, and the messages without them."""

import base64
import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_ext.imagebind.preprocess.limits import Limits
from server.errors import BadRequest, RequestError, TooLarge, UnsupportedMediaType
from server.media.attachments import (
    Attachment,
    AttachmentLimits,
    list_parts,
    message_parts,
    read_attachments,
)
from server.media.blob import MemoryBlob
from server.media.sources import Sources
from tests.server.media_files import encoded, media

DIM = 3
LIMITS = AttachmentLimits(count=4, media=Limits(), embedding_dim=DIM)
IMAGE = {"type": "image_url", "image_url": {"url": f"data:;base64,{encoded('img_a.jpg')}"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": encoded("audio_a.wav"), "format": "wav"}}
TEXT = {"type": "text", "text": "What is this?"}


def take(*parts: Any, limits: AttachmentLimits = LIMITS) -> list[Attachment]:
    return read_attachments(list_parts(list(parts)), limits, Sources())


def from_messages(messages: Any) -> list[Attachment]:
    return read_attachments(message_parts(messages), LIMITS, Sources())


def file_part(name: str, filename: str | None = None, **extra: Any) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": encoded(name), "filename": filename}, **extra}


def test_attachments_leave_the_messages_and_the_text_stays() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [IMAGE, TEXT, AUDIO]},
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": [AUDIO]},
    ]
    attachments = from_messages(messages)
    assert [(a.modality, a.param) for a in attachments] == [
        ("image", "messages[1].content[0]"),
        ("audio", "messages[1].content[2]"),
        ("audio", "messages[3].content[0]"),
    ]
    assert attachments[0].source == MemoryBlob(media("img_a.jpg"))
    assert [m["content"] for m in messages] == ["Be brief.", "What is this?", "A dog.", ""]


def test_several_texts_are_joined_as_vllm_joins_them() -> None:
    messages = [{"role": "user", "content": [TEXT, IMAGE, "and", {"type": "text", "text": "that"}]}]
    from_messages(messages)
    assert messages[0]["content"] == "What is this?\nand\nthat"


def test_other_text_parts_are_left_to_vllm() -> None:
    parts = [{"type": "refusal", "refusal": "no"}, TEXT]
    messages = [{"role": "assistant", "content": copy.deepcopy(parts)}]
    assert from_messages(messages) == []
    assert messages[0]["content"] == parts


@pytest.mark.parametrize(
    ("part", "modality"),
    [
        (IMAGE, "image"),
        ({**IMAGE, "image_url": IMAGE["image_url"]["url"]}, "image"),  # type: ignore[index]
        (AUDIO, "audio"),
        ({**IMAGE, "modality": "depth"}, "depth"),
        (file_part("img_a.jpg"), "image"),
        (file_part("video_a.mp4"), "video"),
        (file_part("audio_c.flac"), "audio"),
        (file_part("points_a.npy"), "point"),
        (file_part("points_c.ply"), "point"),
        (file_part("points_d.obj", "cloud.obj"), "point"),
        (file_part("img_a.jpg", modality="thermal"), "thermal"),
    ],
)
def test_the_modality_comes_from_the_part_or_the_bytes(part: Any, modality: str) -> None:
    (attachment,) = take(part)
    assert attachment.modality == modality


@pytest.mark.parametrize("kind", ["audio", "video", "point_cloud"])
def test_url_parts(kind: str) -> None:
    (attachment,) = take({"type": f"{kind}_url", f"{kind}_url": {"url": "data:;base64,AAAA"}})
    assert attachment.modality == kind.removesuffix("_cloud")
    assert attachment.source == MemoryBlob(bytes(3))


def test_file_data_may_be_a_data_url() -> None:
    part = file_part("img_a.jpg")
    part["file"]["file_data"] = f"data:image/jpeg;base64,{part['file']['file_data']}"
    assert take(part)[0].source == MemoryBlob(media("img_a.jpg"))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "imagebind_text", "imagebind_text": {"text": "é"}},
        {"type": "imagebind_text", "imagebind_text": "é"},
        {"type": "imagebind_text", "text": "é"},
    ],
)
def test_a_text_can_condition(part: Any) -> None:
    assert take(part) == [Attachment("text", MemoryBlob("é".encode()), 1.0, "attachments[0]")]


@pytest.mark.parametrize("as_base64", [True, False])
def test_an_embedding(as_base64: bool) -> None:
    numbers = np.array([1, -2, 0.5], "<f4")
    data = base64.b64encode(numbers.tobytes()).decode() if as_base64 else numbers.tolist()
    (attachment,) = take({"type": "imagebind_embedding", "imagebind_embedding": {"data": data}})
    assert attachment.modality == "embedding"
    assert attachment.source == MemoryBlob(numbers.tobytes())


@pytest.mark.parametrize(
    "data",
    [
        [1, 2],
        [1, 2, "3"],
        [1, 2, True],
        [0, 0, 0],
        [1e39, 0, 0],  # 1e39 is infinite in float32.
        [float("nan"), 0, 0],
        [1e-30, 0, 0],
        [10**400, 0, 0],
        [[1, 2, 3]],
        "AAAA",
        base64.b64encode(np.full(3, np.inf, "<f4").tobytes()).decode(),
        None,
        {},
    ],
    ids=str,
)
def test_a_bad_embedding_is_refused(data: Any) -> None:
    with pytest.raises(RequestError) as caught:
        take({"type": "imagebind_embedding", "imagebind_embedding": {"data": data}})
    assert caught.value.status in (400, 413)
    assert caught.value.param == "attachments[0]"


@pytest.mark.parametrize("weight", [0, 1, -2.5, 1e6])
def test_weights(weight: float) -> None:
    assert take({**IMAGE, "weight": weight})[0].weight == weight


@pytest.mark.parametrize("weight", ["1", None, True, float("inf"), float("nan"), 1e7, [], 10**400])
def test_a_bad_weight_names_its_part(weight: Any) -> None:
    with pytest.raises(BadRequest, match="weight must") as caught:
        take(AUDIO, {**IMAGE, "weight": weight})
    assert caught.value.param == "attachments[1].weight"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"type": "hologram"}, "unknown content part type"),
        ({"type": None}, "unknown content part type"),
        ({}, "unknown content part type"),
        ({"type": ["image_url"]}, "unknown content part type"),
        (3, "must be an object"),
        ({**IMAGE, "modality": "smell"}, "unknown modality"),
        ({**IMAGE, "modality": []}, "unknown modality"),
        ({"type": "image_url"}, "image_url must hold a string url"),
        ({"type": "image_url", "image_url": {"url": 3}}, "image_url must hold a string url"),
        ({"type": "input_audio", "input_audio": {}}, "input_audio must hold a string data"),
        ({"type": "file", "file": {"file_id": 3}}, "file_id must be a string"),
        ({"type": "file", "file": {"file_data": "https://x/y.png"}}, "not enabled"),
        ({"type": "file", "file": {}}, "file must hold a string file_data"),
        ({"type": "imagebind_text", "imagebind_text": {"text": "\ud800"}}, "Unicode"),
        ({"type": "image_url", "image_url": {"url": "https://x/y.png"}}, "not enabled"),
    ],
)
def test_a_bad_part_is_named(part: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        read_attachments(
            message_parts([{"role": "user", "content": [TEXT, part]}]), LIMITS, Sources()
        )
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[0].content[1]")


def test_a_file_of_unknown_modality_is_rejected() -> None:
    part = {"type": "file", "file": {"file_data": base64.b64encode(b"what is this").decode()}}
    with pytest.raises(UnsupportedMediaType, match="state `modality`"):
        take(part)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"%PDF-1.7", "a PDF document, .*: save the page as PNG"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'>", "SVG, .*: save it as PNG"),
        (b"\x1f\x8b\x08", "gzip.*: send the file uncompressed"),
        (b"#EXTM3U\n", "a playlist"),
        (b"\x80\x04\x95", "a Python pickle, which the server never opens"),
    ],
)
def test_the_rejection_names_the_kind_of_the_file(data: bytes, named: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=named):
        take({"type": "file", "file": {"file_data": base64.b64encode(data).decode()}})


def bytes_part(data: bytes, **fields: object) -> dict[str, object]:
    return {"type": "file", "file": {"file_data": base64.b64encode(data).decode()}, **fields}


MP4 = b"\x00\x00\x00\x18ftypisom"


def test_the_sound_of_a_video_is_a_second_attachment() -> None:
    video, sound = take(bytes_part(MP4, sound={"weight": 0.5}, weight=2))
    assert (video.modality, video.weight) == ("video", 2)
    assert (sound.modality, sound.weight) == ("audio", 0.5)
    assert sound.source is video.source
    assert sound.param == f"{video.param}.sound"


def test_options_of_a_part_are_read_and_checked() -> None:
    (sound,) = take(bytes_part(b"fLaC", channels="mean"))
    assert sound.options.channels == "mean"
    for part, param in [
        (bytes_part(b"fLaC", channels="left"), "channels"),
        (bytes_part(b"\xff\xd8\xff", channels="mean"), "channels"),
        (bytes_part(b"fLaC", sound={"weight": 1}), "sound"),
        (bytes_part(MP4, sound=True), "sound"),
        (bytes_part(MP4, sound={"weight": "x"}), "sound.weight"),
        (bytes_part(b"ply\n", normalize="yes"), "normalize"),
        (bytes_part(b"fLaC", normalize=True), "normalize"),
    ]:
        with pytest.raises(BadRequest) as caught:
            take(part)
        assert (caught.value.param or "").endswith(param)


def test_the_number_of_attachments_is_limited() -> None:
    assert len(take(*[IMAGE] * LIMITS.count)) == LIMITS.count
    with pytest.raises(BadRequest, match="more than 4"):
        take(*[IMAGE] * (LIMITS.count + 1))


def test_each_modality_has_its_bound() -> None:
    limits = AttachmentLimits(4, Limits(image_bytes=10, text_bytes=10), DIM)
    for part in (IMAGE, file_part("img_a.jpg"), {"type": "imagebind_text", "text": "é" * 6}):
        with pytest.raises(TooLarge, match="larger than 10 bytes"):
            take(part, limits=limits)
    assert take(AUDIO, limits=limits)


def test_a_text_part_is_not_an_attachment_of_a_completion() -> None:
    with pytest.raises(BadRequest, match="belongs into prompt"):
        take(TEXT)


@pytest.mark.parametrize("messages", [None, {}, "x", 3])
def test_messages_must_be_a_list(messages: Any) -> None:
    with pytest.raises(BadRequest, match="messages must be a list"):
        from_messages(messages)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
PARTS = ("type", "image_url", "input_audio", "file", "imagebind_text", "imagebind_embedding")
FIELDS = ("url", "file_data", "filename", "data", "weight", "modality", "text")
names = st.sampled_from([*PARTS, *FIELDS])
values = st.recursive(
    scalars | names | st.just("data:;base64,AAAA"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(names, values, max_size=5) | values, max_size=4))
def test_no_json_does_anything_but_succeed_or_be_refused(parts: list[Any]) -> None:
    error = refusal([{"role": "user", "content": parts}])
    assert error is None or (error.status < 500 and len(error.message) < 1000)


def refusal(messages: list[Any]) -> RequestError | None:
    try:
        from_messages(messages)
    except RequestError as error:
        return error
    return None
