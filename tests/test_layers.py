"""Dependencies point one way: server -> model_ext, cache_index, which do not know each other."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BANNED = {  # path prefix -> packages that no file under it may import; every match applies
    "cache_index": {"server", "model_ext", "torch", "vllm", "fastapi"},
    "model_ext": {"server", "cache_index", "fastapi", "faiss"},
    "model_ext/imagebind": {"vllm", "deepspeed"},  # shared by serving and training:
    "model_ext/bind.py": {"vllm", "deepspeed"},  # plain torch
    "model_ext/inject.py": {"vllm", "deepspeed"},
    "model_ext/train": {"vllm"},
    "server": {"faiss", "deepspeed"},
    "deploy/loadtest": {"server", "model_ext", "cache_index", "torch"},  # runs anywhere
    ".": {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"},
}
EXEMPT = {"model_ext/convert/pickles.py": {"pickle"}}  # for the name of torch's error only
FOLDERS = ("server", "model_ext", "cache_index", "deploy")
FILES = sorted(p.relative_to(ROOT) for f in FOLDERS for p in (ROOT / f).rglob("*.py"))


def imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
    """The modules that a file names. `from a import b` may mean a.b: both are given."""
    tree = ast.parse((ROOT / path).read_text())
    for node in tree.body if at_import_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_one_way(path: Path) -> None:
    banned = set().union(*(b for prefix, b in BANNED.items() if path.is_relative_to(prefix)))
    banned -= EXEMPT.get(str(path), set())
    assert not {name.split(".")[0] for name in imports(path)} & banned


def test_no_import_cycle() -> None:
    ours = {module(path) for path in FILES}
    graph = {module(path): ours & set(imports(path, at_import_only=True)) for path in FILES}
    for name, needed in graph.items():
        needed.discard(name)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 30
