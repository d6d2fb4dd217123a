"""Fixtures: servers that several tests share. The tests are sorted so that each server starts only
once.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.serving.launch import KEY, SMALL_CACHE, SPECS, Server, Spec, serve

MAX_RUNNING = 2  # at most two servers at a time; each uses 2 to 3 GB


class Pool:
    def __init__(self, models: dict[str, Path], folder: Path) -> None:
        self.models, self.folder = models, folder
        self.running: dict[Spec, tuple[AbstractContextManager[Server], Server]] = {}

    def get(self, spec: Spec) -> Server:
        if spec not in self.running:
            while len(self.running) >= MAX_RUNNING:
                self.stop(next(iter(self.running)))
            opened = self.open(spec)
            self.running[spec] = opened, opened.__enter__()
        self.running[spec] = self.running.pop(spec)  # the least recently used server is the first
        return self.running[spec][1]

    def open(self, spec: Spec) -> AbstractContextManager[Server]:
        options = [f"--cache={self.models.get(spec.cache, spec.cache)}"]
        if spec.locked:
            keys = self.folder / "keys"
            keys.write_text(f"{KEY}\n")
            options += [f"--api-key-file={keys}", "--allow-field=vllm_xargs"]
        return serve(
            self.models[spec.model],
            self.folder / f"{spec}.log",
            *options,
            runner=spec.runner,
            flags=SMALL_CACHE if spec.isolating else (),
            checking=spec.isolating,
        )

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
    """Return a running server with the test's parameter `spec`."""
    return servers.get(spec)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of all files by their server. Tests that start an engine come first.

    These tests take longest. If they run first, two pytest workers end at about the same time.
    Raises UsageError if a test of this folder lacks the mark `engine`, because `make check`
    would then start an engine.
    """
    for item in items:
        here = item.path.is_relative_to(Path(__file__).parent)
        if here and not item.get_closest_marker("engine"):
            raise pytest.UsageError(f"{item.nodeid} starts an engine: mark it pytest.mark.engine")

    def order(item: pytest.Item) -> int:
        spec = getattr(item, "callspec", None) and item.callspec.params.get("spec")
        if spec in SPECS:
            return SPECS.index(spec)
        return len(SPECS) + (not item.get_closest_marker("engine"))

    items.sort(key=order)
