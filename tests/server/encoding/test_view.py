"""The function `answer_view`, which writes the answer to a job that asks for a view."""

import threading

import pytest
import torch

from model_ext.imagebind.preprocess.options import ReadOptions
from model_ext.imagebind.preprocess.sample import Sample
from server.encoding.messages import Job
from server.encoding.view import answer_view, unpack_view
from server.media.blob import Blob, MemoryBlob
from server.process import data_file


class Decoder:
    async def decode(
        self,
        modality: str,
        blob: Blob,  # noqa: ARG002
        options: ReadOptions,  # noqa: ARG002
        client: str,  # noqa: ARG002
        view: str,  # noqa: ARG002
        /,
    ) -> Sample:
        return Sample(modality, torch.arange(6.0).reshape(2, 3), {"width": 3})


async def test_a_view_is_written_outside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    memory_file = data_file.memory_file

    def recorded(data: bytes) -> int:
        threads.append(threading.current_thread())
        return memory_file(data)

    monkeypatch.setattr(data_file, "memory_file", recorded)
    job = Job("image", 3, "", view="pixels")
    packet, descriptor = await answer_view(Decoder(), job, MemoryBlob(b"cat"))
    view = await unpack_view(packet, descriptor)
    assert view.array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert view.notes == {"width": 3}
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
