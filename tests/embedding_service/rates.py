"""Compare the rates of a server of encoders alone with those of its parts, in interleaved rounds.

    python -m tests.embedding_service.rates clients|windows|bulk [--model MODEL] [--rounds 7]

clients: 16 clients of Weaviate's listener, with one picture per call. The part is the encoder
alone, in batches.
windows: windows of a sound over HTTP. The parts are decoding (with cutting) and encoding.
bulk: pictures, as `bindserve embed` embeds them after its start. The parts are decoding and
encoding.

Without --model, the encoders have ImageBind-huge's widths and numbers of tokens, --blocks blocks,
and random weights. The encoder computes with one thread, and one process decodes, so that on two
cores each has a core. The result cache is off. Prints the whole's rate divided by that of the
slowest part, with a 95% interval.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import torch
from torch import Tensor

from cache_index.captions import Caption
from model_ext.bench import encoders as bench
from model_ext.bench.pairs import ratio
from model_ext.imagebind.work import sample_tokens
from server.cli.bulk.embedder import BulkEmbedder, BulkRequest
from server.cli.bulk.place import BulkItem, Place
from server.encoding.components import IMAGE_TOKENS, EncodingComponents, open_encoders
from server.encoding.in_order import in_order
from server.encoding.windows import Cutter
from server.media.blob import Blob, MemoryBlob
from server.settings import Settings
from tests.embedding_service.model_folder import write_sizes
from tests.embedding_service.pictures import encode, noise, pictures
from tests.serving.launch import Server, free_port, serve_encoders

CLIENTS = 16
CONCURRENT = 16  # files that are decoded at a time, when only decoding is measured
FIXED = {"decode_workers": 1, "encode_threads": 1, "embedding_cache_bytes": 0}
GOALS = {"clients": 0.85, "windows": 0.8, "bulk": 0.9}

Item = TypeVar("Item")
Work = Callable[[], Awaitable[object]]  # processes all files, or all windows, once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=list(GOALS))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--count", type=int, default=96, help="files or windows per measurement")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        model = options.model or write_sizes(Path(name, "model"), bench.config(options.blocks))
        values: dict[str, Any] = {
            **FIXED,
            "encode_load_format": "auto" if options.model else "dummy",
        }
        bench_ = Bench(Settings(model=model, **values), values, Path(name), options.count)
        asyncio.run(getattr(bench_, options.what)(options.rounds))


class Bench:
    def __init__(
        self, settings: Settings, values: dict[str, Any], folder: Path, count: int
    ) -> None:
        """`values`: the settings of the server. `count`: files or windows per measurement."""
        self._settings, self._folder, self._count = settings, folder, count
        self._config = folder / "settings.yaml"
        self._config.write_text(json.dumps(values))
        torch.set_num_threads(settings.encode_threads)
        self._encoders = open_encoders(settings.model / "encoders", settings, "cpu").eval()

    async def clients(self, rounds: int) -> None:
        port, files = free_port(), pictures(self._count, seed=0)
        bodies = [json.dumps({"images": [encode(file)]}).encode() for file in files]
        parts = await EncodingComponents.open(self._settings)
        tensors = await decode_all(parts, "image", map(MemoryBlob, files))
        await parts.close()
        with self._server(f"--weaviate=127.0.0.1:{port}"):
            url = f"http://127.0.0.1:{port}/vectorize"
            send = partial(asyncio.to_thread, send_all, url, bodies)
            await self._report(
                "clients", rounds, send, {"encoding": self._encode("vision", tensors)}
            )

    async def windows(self, rounds: int) -> None:
        sound = noise(self._count, seed=0)  # a window starts every second
        parts = await EncodingComponents.open(self._settings)
        cutter = Cutter(self._settings)

        async def decode() -> list[Tensor]:
            windows = cutter.cut(MemoryBlob(sound), 2, 1)
            blobs = (window.content async for window in windows)
            return await decode_all(parts, "audio", blobs)

        tensors = await decode()
        with self._server() as server:
            form = {"files": {"file": ("a.wav", sound)}, "data": {"purpose": "user_data"}}
            file = httpx.post(f"{server.url}/v1/files", timeout=60, **form).json()  # type: ignore[arg-type]
            body = {
                "input": [{"type": "file", "file": {"file_id": file["id"]}}],
                "imagebind": {"windows": {"seconds": 2, "stride": 1}},
            }

            async def embed() -> None:
                response = await asyncio.to_thread(server.post, "/v1/embeddings", body)
                assert len(response.json()["data"]) == len(tensors), response.text[:300]

            alone = {"decoding": decode, "encoding": self._encode("audio", tensors)}
            await self._report("windows", rounds, embed, alone)
        await parts.close()

    async def bulk(self, rounds: int) -> None:
        items = []
        for number, data in enumerate(pictures(self._count, seed=0)):
            path = self._folder / f"{number}.jpg"
            path.write_bytes(data)
            items.append(BulkItem(Place(path), Caption()))
        parts = await EncodingComponents.open(self._settings)
        embedder = BulkEmbedder(BulkRequest(self._settings, (), self._folder / "out.npy"), parts)

        async def embed() -> None:
            async for _, rows in in_order(each(items), embedder.embed, embedder.concurrent):
                assert not isinstance(rows, str), rows

        async def decode() -> list[Tensor]:
            return await decode_all(parts, "image", (item.place.blob(1 << 20) for item in items))

        tensors = await decode()
        alone = {"decoding": decode, "encoding": self._encode("vision", tensors)}
        await self._report("bulk", rounds, embed, alone)
        await parts.close()

    def _server(self, *options: str) -> AbstractContextManager[Server]:
        log = self._folder / "log"
        return serve_encoders(self._settings.model, log, f"--config={self._config}", *options)

    def _encode(self, encoder: str, tensors: list[Tensor]) -> Work:
        """Encode all tensors in batches as large as the server's."""
        tokens = sample_tokens(self._encoders.config, encoder, tensors[0].shape)
        size = max(1, self._settings.encode_batch * IMAGE_TOKENS // tokens)
        batches = [torch.stack(tensors[at : at + size]) for at in range(0, len(tensors), size)]

        def work() -> None:
            torch.set_num_threads(self._settings.encode_threads)
            with torch.inference_mode():
                for batch in batches:
                    self._encoders.unit(encoder, batch)

        return partial(asyncio.to_thread, work)

    async def _report(self, name: str, rounds: int, whole: Work, parts: dict[str, Work]) -> None:
        """Measure the rates in each round, in alternating order, and print their ratio."""
        arms = {"whole": whole, **parts}
        rates: list[dict[str, float]] = []
        for number in range(rounds + 1):
            order = list(arms) if number % 2 else list(reversed(arms))
            measured = {arm: await rate(self._count, arms[arm]) for arm in order}
            if number:  # the first round warms up
                rates.append(measured)
                print({arm: round(measured[arm], 2) for arm in arms}, flush=True)
        pairs = [(each["whole"], min(each[part] for part in parts)) for each in rates]
        for arm in arms:
            print(f"{arm}: median {statistics.median(each[arm] for each in rates):.2f} per second")
        print(f"{name}: {ratio(pairs)} of the slowest part; goal {GOALS[name]}")


async def rate(count: int, work: Work) -> float:
    began = time.perf_counter()
    await work()
    return count / (time.perf_counter() - began)


async def each(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    for item in items:
        yield item


async def decode_all(
    parts: EncodingComponents, modality: str, blobs: "Iterable[Blob] | AsyncGenerator[Blob, None]"
) -> list[Tensor]:
    async def decode(blob: Blob) -> Tensor:
        return (await parts.decoder.decode(modality, blob)).tensor

    source = each(blobs) if isinstance(blobs, Iterable) else blobs
    return [tensor async for _, tensor in in_order(source, decode, CONCURRENT)]


def send_all(url: str, bodies: list[bytes]) -> None:
    """Send the bodies from CLIENTS clients, each of which waits for its response."""

    def client(number: int) -> None:
        headers = {"Content-Type": "application/json"}
        with httpx.Client(timeout=600, headers=headers) as http:
            for body in bodies[number::CLIENTS]:
                response = http.post(url, content=body)
                assert response.status_code == 200, response.text

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))


if __name__ == "__main__":
    main()
