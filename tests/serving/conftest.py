"""The servers that the tests share, and the order that lets them."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.serving.launch import KEY, SPECS, Server, Spec, serve

MOST = 2  # running at a time: each takes 2 to 3 GB


class Pool:
    def __init__(self, models: dict[str, Path], folder: Path) -> None:
        self.models, self.folder = models, folder
        self.running: dict[Spec, tuple[AbstractContextManager[Server], Server]] = {}

    def get(self, spec: Spec) -> Server:
        if spec not in self.running:
            while len(self.running) >= MOST:
                self.stop(next(iter(self.running)))
            opened = self.open(spec)
            self.running[spec] = opened, opened.__enter__()
        self.running[spec] = self.running.pop(spec)  # the most recently used
        return self.running[spec][1]

    def open(self, spec: Spec) -> AbstractContextManager[Server]:
        options = [f"--cache={self.models.get(spec.cache, spec.cache)}"]
        if spec.locked:
            keys = self.folder / "keys"
            keys.write_text(f"{KEY}\n")
            options += [f"--api-key-file={keys}", "--allow-field=vllm_xargs"]
        log = self.folder / f"{spec}.log"
        return serve(self.models[spec.model], log, *options, runner=spec.runner)

    def stop(self, spec: Spec) -> None:
        opened, _ = self.running.pop(spec)
        opened.__exit__(None, None, None)


@pytest.fixture(scope="session")
def servers(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool]:
    pool = Pool(tiny_models, tmp_path_factory.mktemp("servers"))
    yield pool
    for spec in list(pool.running):
        pool.stop(spec)


@pytest.fixture
def server(spec: Spec, servers: Pool) -> Server:
    """The server that the test is parametrized with."""
    return servers.get(spec)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one server stand together, whatever file they are in, and engines begin first.

    They take longest: side by side (pytest -n), nobody waits for a last one in the end.
    """

    def order(item: pytest.Item) -> int:
        spec = getattr(item, "callspec", None) and item.callspec.params.get("spec")
        if spec in SPECS:
            return SPECS.index(spec)
        return -1 if item.get_closest_marker("engine") else len(SPECS)

    items.sort(key=order)
