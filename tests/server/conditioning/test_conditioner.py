"""The conditioner turns files into one embedding. Real encoders reproduce the recorded values."""

import asyncio
import contextlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from model_ext.conditioning import Vector
from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.imagebind.preprocess.sample import Sample
from server.api.components import Components
from server.conditioning.conditioner import Conditioner
from server.conditioning.options import ImageBindOptions, take_options
from server.conditioning.retrieve import Retriever
from server.encoding.cache import ResultCache
from server.encoding.embedder import Embedder, Report
from server.encoding.messages import Job
from server.errors import BadRequest
from server.media.attachments import EMBEDDING, Attachment
from server.media.blob import Blob, MemoryBlob
from server.media.embedded import Embedded
from server.media.sources import Link
from server.metrics import ATTACHMENTS
from tests.model_ext.imagebind.formulas import formula_input
from tests.server.conditioning.test_mix import COMBOS, MIXED
from tests.server.media_files import MEDIA, media

OFF = ImageBindOptions(cache=False)
TEXT0 = b"A dog is running on the beach."
MODALITY = {"img": "image", "aud": "audio", "poi": "point", "vid": "video", "tex": "text"}
EMBEDDINGS = load_file(MEDIA.parent / "golden" / "embeddings.safetensors")


def attachment(name: str, weight: float, param: str = "p") -> Attachment:
    modality = MODALITY.get(name[:3], name)
    if modality == "text":
        return Attachment("text", MemoryBlob(TEXT0), weight, param)
    if modality == name:  # Files of depth, thermal and imu are arrays.
        file = io.BytesIO()
        np.save(file, formula_input(name).numpy())
        return Attachment(modality, MemoryBlob(file.getvalue()), weight, param)
    return Attachment(modality, MemoryBlob(media(name)), weight, param)


async def test_every_golden_mix_and_its_enhancement(components: Components) -> None:
    """Check all recorded mixes in one test, because it takes seconds to start the components."""
    for combo, parts in COMBOS.items():
        attachments = [attachment(name, weight) for name, weight in parts]
        mixed = await components.conditioner.condition(attachments, OFF)
        # The tolerance allows for rounding in the encoders.
        close(mixed.embedding, MIXED[f"{combo}/mixed"][0], 1e-5)
        assert mixed.explanation.cache == "off"
        enhanced = await components.conditioner.condition(attachments, ImageBindOptions())
        close(enhanced.embedding, MIXED[f"{combo}/knn.index/size10_t20_w0.5/enhanced"][0], 1e-5)
        assert enhanced.explanation.cache == "on"


def close(found: Vector, expected: Vector, tolerance: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


async def test_text_only_is_the_zero_image_without_cache(components: Components) -> None:
    from model_ext.imagebind.model import ImageBind

    folder = Path(components.retriever._cache.index.folder).parent / "finetune" / "encoders"  # type: ignore[union-attr]
    with torch.inference_mode():
        unit = ImageBind.from_folder(folder).unit("vision", torch.zeros(1, 3, 224, 224))[0].numpy()
    answer = await components.conditioner.condition([], ImageBindOptions())
    close(answer.embedding, unit / np.float32(1 + 1e-6), 1e-7)
    assert (answer.explanation.text_only, answer.explanation.cache) == (True, "off")
    asked = await components.conditioner.condition([], ImageBindOptions(cache=True))
    assert asked.explanation.cache == "on"
    assert not np.allclose(asked.embedding, answer.embedding, atol=1e-3)


class Fake:
    """A fake decoder and encoder. A file contains an angle in degrees as text. Its embedding is the
    two-dimensional direction at this angle. Records the decoded files.
    """

    def __init__(self) -> None:
        self.decoded: list[bytes] = []
        self.go = asyncio.Event()
        self.go.set()

    async def decode(
        self,
        modality: str,
        content: Blob,
        options: ReadOptions,  # noqa: ARG002
        client: str,  # noqa: ARG002
    ) -> Sample:
        data = content.head(content.size)
        self.decoded.append(data)
        await self.go.wait()
        if not data.isdigit():
            raise BadRequest("not a number")
        return Sample(modality, torch.tensor(float(data)), {})

    async def encode(self, encoder: str, tensor: torch.Tensor, client: str) -> Vector:  # noqa: ARG002
        angle = float(tensor) * np.pi / 180
        return np.array([np.cos(angle), np.sin(angle), 2], np.float32)

    async def fetch(self, link: Link) -> Blob:
        """A fake download, which returns the last part of the URL's path as the file's content."""
        return MemoryBlob(link.url.rpartition("/")[2].encode())


@dataclass
class InProcess:
    """Replaces the encoding service."""

    embedder: Embedder

    async def embed(self, modality: str, content: Blob, options: ReadOptions) -> Embedded:
        job = Job(modality, content.size, "", options=asdict(options))
        return await self.embedder.embed(job, content, Report())


def conditioner(
    fake: Fake,
    encoders: tuple[str, ...] = ("vision", "audio"),
    retriever: Retriever | None = None,
) -> Conditioner:
    embedder = Embedder(fake, fake, encoders, ResultCache(1 << 20))
    return Conditioner(
        *(InProcess(embedder), retriever or Retriever(None)),
        encoders=encoders,
        text_only=np.array([1, 0], np.float32),
        fetcher=fake,
    )


def images(*numbers: Any) -> list[Attachment]:
    return [
        Attachment("image", MemoryBlob(str(number).encode()), 1.0, f"part[{i}]")
        for i, number in enumerate(numbers)
    ]


async def test_several_of_one_modality_mix() -> None:
    answer = await conditioner(Fake()).condition(images(0, 90), OFF)
    close(answer.embedding, np.array([0.5, 0.5], np.float32), 1e-5)


async def test_equal_content_is_decoded_once_at_once_or_later() -> None:
    fake = Fake()
    stage = conditioner(fake)
    await asyncio.gather(*(stage.condition(images(7, 7), OFF) for _ in range(10)))
    await stage.condition(images(7), OFF)
    assert fake.decoded == [b"7"]
    # A sound is decoded again, although its bytes equal those of the image.
    await stage.condition([Attachment("audio", MemoryBlob(b"7"), 1.0, "p")], OFF)
    assert fake.decoded == [b"7", b"7"]


async def test_a_link_is_fetched_and_its_content_known() -> None:
    fake = Fake()
    link = Attachment("image", Link("https://x/90", 100), 1.0, "p")
    for attachments in (images(90), [link]):
        answer = await conditioner(fake).condition(attachments, OFF)
        close(answer.embedding, np.array([0, 1], np.float32), 1e-5)
    stage = conditioner(fake)
    await stage.condition([link, link, *images(90)], OFF)
    # Each of the three conditioners of this test decodes the content once.
    assert fake.decoded == [b"90"] * 3


async def test_an_error_names_the_part_of_each_request() -> None:
    stage = conditioner(Fake())
    for param in ("a", "b"):
        with pytest.raises(BadRequest, match="not a number") as caught:
            await stage.condition(
                [*images(1), Attachment("image", MemoryBlob(b"x"), 1.0, param)], OFF
            )
        assert caught.value.param == param


async def test_a_shared_failure_names_the_part_of_each_request() -> None:
    fake = Fake()
    fake.go.clear()
    stage = conditioner(fake)
    runs = [
        asyncio.ensure_future(
            stage.condition([Attachment("image", MemoryBlob(b"x"), 1.0, param)], OFF)
        )
        for param in "ab"
    ]
    await asyncio.sleep(0.01)
    fake.go.set()
    errors = await asyncio.gather(*runs, return_exceptions=True)
    assert [error.param for error in errors] == ["a", "b"]  # type: ignore[union-attr]
    assert fake.decoded == [b"x"]


async def test_attachments_that_fail_are_counted() -> None:
    """Regression: the metric counted only attachments that were embedded without an error."""

    def counted(modality: str) -> float:
        return ATTACHMENTS.labels(modality)._value.get()  # type: ignore[no-any-return]

    before = counted("image"), counted("point"), counted(EMBEDDING)
    data = np.array([0, 3], "<f4").tobytes()
    sent = [("image", b"1"), ("point", b"1"), ("image", b"x"), (EMBEDDING, data)]
    for modality, content in sent:
        file = Attachment(modality, MemoryBlob(content), 1.0, "p")
        with contextlib.suppress(BadRequest):
            await conditioner(Fake()).condition([file], OFF)
    after = counted("image"), counted("point"), counted(EMBEDDING)
    assert np.subtract(after, before).tolist() == [2, 1, 1]


async def test_a_modality_that_the_model_lacks() -> None:
    stage = conditioner(Fake())
    message = "this model has no encoder for the modality point; it accepts"
    with pytest.raises(BadRequest, match=message) as caught:
        await stage.condition([Attachment("point", MemoryBlob(b"1"), 1.0, "p")], OFF)
    assert "image, video, audio" in caught.value.message


async def test_an_embedding_of_the_client_is_brought_to_unit_length() -> None:
    data = np.array([0, 3], "<f4").tobytes()
    answer = await conditioner(Fake()).condition(
        [Attachment(EMBEDDING, MemoryBlob(data), 2.0, "p")], OFF
    )
    close(answer.embedding, np.array([0, 1], np.float32), 1e-5)
    assert answer.explanation.mix[0].model_dump() == {
        "param": "p",
        "modality": "embedding",
        "weight": 2.0,
        "share": 1.0,
        "notes": {},
    }


async def test_a_bad_parameter_is_told_before_the_work() -> None:
    fake = Fake()
    with pytest.raises(BadRequest, match="without a cache"):
        await conditioner(fake).condition(images(1), take_options({"imagebind": {"cache": True}}))
    assert fake.decoded == []


async def test_who_leaves_stops_the_work() -> None:
    fake = Fake()
    fake.go.clear()
    stage = conditioner(fake)
    run = asyncio.ensure_future(stage.condition(images(1, 2), OFF))
    await asyncio.sleep(0.01)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not stage._embedder.embedder._results._in_flight  # type: ignore[attr-defined]
