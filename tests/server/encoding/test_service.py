"""The encoding service and its client, with a real socket, real encoders and real decoding
processes.
"""

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from model_ext.imagebind.preprocess.options import ReadOptions
from server.context import RequestContext, entered
from server.encoding.client import STALLED, EncodingClient
from server.encoding.components import EncodingComponents
from server.encoding.decode.pool import MediaError
from server.encoding.messages import (
    ERRORS,
    SOCKET,
    Answer,
    Hello,
    Job,
    MessageError,
    Packet,
    State,
    Watch,
)
from server.encoding.service import EncodingService, receive
from server.errors import InternalError, NotFound, Unavailable
from server.media.blob import DiskBlob, MemoryBlob
from tests.corpus import FOLDER
from tests.server.media_files import media
from tests.server.waiting import until

PICTURE = MemoryBlob(media("img_a.jpg"))


@pytest.fixture
async def client(tmp_path: Path, parts: EncodingComponents) -> AsyncIterator[EncodingClient]:
    client = EncodingClient(tmp_path / SOCKET)
    await client.hello()
    await until(lambda: client.missing() is None)
    assert parts.missing() is None
    yield client
    await client.close()


def count(stage: str) -> float:
    labels = {"stage": stage, "modality": "image"}
    return REGISTRY.get_sample_value("bindserve_stage_seconds_count", labels) or 0


async def test_a_hundred_equal_files_of_two_clients_are_one_run(
    client: EncodingClient, parts: EncodingComponents, tmp_path: Path
) -> None:
    other, runs = EncodingClient(tmp_path / SOCKET), count("encode")
    calls: list[tuple[str, int]] = []
    tell = parts.batcher.on_batch
    assert tell is not None
    parts.batcher.on_batch = lambda *batch: calls.append(batch) or tell(*batch)
    embedded = await asyncio.gather(
        *(each.embed("image", PICTURE) for each in (client, other) for _ in range(50))
    )
    found = [each.unit for each in embedded]
    assert calls == [("vision", 1)]
    assert count("encode") == runs + 1
    assert all((each == found[0]).all() for each in found)
    assert np.linalg.norm(found[0]) == pytest.approx(1)
    await other.close()


@pytest.mark.parametrize(("shared", "runs"), [(False, 2), (True, 1)])
async def test_keys_share_results_only_if_the_operator_allows_it(
    client: EncodingClient, tmp_path: Path, shared: bool, runs: int
) -> None:
    asking = EncodingClient(tmp_path / SOCKET, share_results=shared)
    assert client.missing() is None

    async def ask(key: str) -> None:
        with entered(RequestContext(b"", key_salt=key)):
            await asking.embed("image", MemoryBlob(PICTURE.data))

    before = count("encode")
    await asyncio.gather(*(ask(key) for key in ("one", "other") for _ in range(3)))
    await asyncio.gather(*(ask(key) for key in ("one", "other")))
    assert count("encode") == before + runs
    await asking.close()


async def test_bytes_on_disk_and_in_memory_are_the_same_file(
    client: EncodingClient, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(PICTURE.data)
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    on_disk = DiskBlob(descriptor, PICTURE.size, hashlib.sha256(PICTURE.data).digest())
    first = (await client.embed("image", on_disk)).unit
    assert ((await client.embed("image", PICTURE)).unit == first).all()


async def test_errors_come_as_they_were_raised(client: EncodingClient) -> None:
    with pytest.raises(MediaError) as bad:
        await client.embed("image", MemoryBlob(b"\xff\xd8\xff no picture"))
    assert (bad.value.status, bad.value.code) == (400, "invalid_media")


async def test_who_leaves_takes_the_work_along(
    client: EncodingClient, parts: EncodingComponents
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    async with parts.decoder._turns.turn("other"):  # the job waits for its turn
        task = asyncio.ensure_future(client.embed("video", MemoryBlob(media("video_a.mp4"))))
        await until(lambda: bool(parts.contents._in_flight))
        task.cancel()
    await until(lambda: not parts.contents._in_flight)
    await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


async def test_a_service_that_is_gone_is_503_until_it_is_back(
    tmp_path: Path, parts: EncodingComponents
) -> None:
    # The path of this socket is longer than the kernel allows.
    folder = tmp_path / ("deep" * 20) / ("er" * 20)
    folder.mkdir(parents=True)
    client = EncodingClient(folder / SOCKET)
    with pytest.raises(Unavailable, match="restarted"):
        await client.embed("image", PICTURE)
    for _ in range(2):
        assert client.missing() is not None
        running = asyncio.ensure_future(EncodingService(parts, folder / SOCKET).run())
        await until(lambda: client.missing() is None)
        await client.embed("image", PICTURE)
        running.cancel()
        await asyncio.wait([running])
        await until(lambda: client.missing() is not None)
    await client.close()


@pytest.mark.parametrize(
    "packet", [b"{", b"[1]\n", b'{"kind": "Other"}\n', b'{"kind": "Job"}\n', b"x" * 9999]
)
async def test_what_is_no_message_is_hung_up_on(
    client: EncodingClient, tmp_path: Path, packet: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stranger, str(tmp_path / SOCKET))
        await loop.sock_sendall(stranger, packet)
        assert await loop.sock_recv(stranger, 1) == b""
    assert (await client.embed("image", PICTURE)).unit.any()


async def test_a_clients_file_is_not_inherited_by_decoding_processes(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, (tmp_path / "file").open("wb") as file:
        socket.send_fds(theirs, [Packet(Job("image", 1, "00")).encode()], [file.fileno()])
        _, descriptor = await receive(ours)
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)


def test_messages_come_back_as_they_were() -> None:
    numbers = np.array([1.5, -2], np.float32)
    for message in (
        Job("image", 3, "00"),
        Watch(),
        Answer(True, {"decode": 0.5}, "decode", Answer.describe(Unavailable("no", code="c"))),
        Hello(["vision"], "bfloat16", 3 << 30),
        State("gone"),
    ):
        packet = Packet.decode(Packet(message, numbers).encode())
        assert packet.message == message
        assert (packet.numbers == numbers).all()
    with pytest.raises(MessageError):
        Packet.decode(json.dumps({"kind": "State", "more": 1}).encode() + b"\n")


def test_every_error_keeps_its_status() -> None:
    for kind in ERRORS.values():
        with pytest.raises(kind, match="said") as caught:
            Answer(False, {}, error=Answer.describe(kind("said", code="c"))).raise_error()
        assert type(caught.value) is kind
        assert caught.value.code == "c"
    with pytest.raises(InternalError):
        Answer(False, {}, error=Answer.describe(NotFound("never"))).raise_error()


async def test_a_stalled_service_ends_waiting_jobs_and_is_found_again(tmp_path: Path) -> None:
    """A fake service, which accepts connections and sends its state only when the test calls
    `send`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as service:
        service.bind(str(tmp_path / SOCKET))
        service.listen()
        service.setblocking(False)
        client = EncodingClient(tmp_path / SOCKET, stall_s=0.1)
        watch, _ = await asyncio.get_running_loop().sock_accept(service)
        with watch:
            watch.send(Packet(State()).encode())
            await until(lambda: client.missing() is None)
            for _ in range(2):  # a job that runs during the stall, then a new job
                with pytest.raises(Unavailable) as caught:
                    await client.embed("image", PICTURE)
                assert caught.value.code == "encoders_stalled"
            assert client.missing() == STALLED
            assert client.stalled_s() >= 0.1
            watch.send(Packet(State()).encode())
            await until(lambda: client.missing() is None)
        await client.close()


async def test_a_container_without_pictures_is_a_sound(client: EncodingClient) -> None:
    """The decoding process determines the modality. The result cache has a separate entry for each
    combination of options.
    """
    recording = MemoryBlob((FOLDER / "audio-a-webm.webm").read_bytes())
    sound = await client.embed("video", recording)
    assert sound.modality == "audio"
    assert (sound.notes["container"], sound.notes["codec"]) == ("matroska", "opus")
    mean = await client.embed("video", recording, ReadOptions(channels="mean"))
    assert mean.notes["channel"] == "mean"
