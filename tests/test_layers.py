"""Imports between packages, and between the folders of a package, go in one direction only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Path prefix -> packages that files below it must not import. A file can match several prefixes.
BANNED = {
    "cache_index": {"server", "model_ext", "torch", "vllm", "fastapi"},
    "model_ext": {"server", "cache_index", "fastapi", "faiss"},
    # both the server and the training code import these files
    "model_ext/imagebind": {"vllm", "deepspeed"},
    "model_ext/bind.py": {"vllm", "deepspeed"},
    "model_ext/inject.py": {"vllm", "deepspeed"},
    "model_ext/grounding": {"vllm", "deepspeed"},
    "model_ext/train": {"vllm"},
    "server": {"faiss", "deepspeed"},
    # the load test runs on machines on which the other packages are not installed
    "deploy/loadtest": {"server", "model_ext", "cache_index", "torch"},
    ".": {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"},
}
EXEMPT = {
    "model_ext/convert/pickles.py": {"pickle"},  # pickles.py catches an exception of pickle.
    "cache_index/exact.py": {"torch"},  # exact.py imports torch only inside functions.
}
PACKAGES = ("server", "model_ext", "cache_index", "deploy")
FILES = sorted(p.relative_to(ROOT) for f in PACKAGES for p in (ROOT / f).rglob("*.py"))
# A folder may import only from the folders before it in this list. "." means the modules directly
# in the package.
ORDER = {
    "server": ". fairness media process engine conditioning encoding side api bench cli",
    "model_ext": (
        ". weights imagebind decoders experts grounding tool_parsers engine checks convert train"
        " eval bench demo"
    ),
    "cache_index": ". bench",
    "deploy": "grafana loadtest gpu ray .",
}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, also in functions and under TYPE_CHECKING.

    `from a import b` can import the module a.b, so both names are yielded.
    """
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the full name"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path) for path in FILES}


def folder(name: str) -> str:
    """Return a module's folder inside its package; "." for modules directly in the package."""
    parts = name.split(".")
    below = parts[1:] if (ROOT / Path(*parts)).is_dir() else parts[1:-1]
    return below[0] if below else "."


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_imports_a_banned_package(path: Path) -> None:
    banned = set().union(*(b for prefix, b in BANNED.items() if path.is_relative_to(prefix)))
    banned -= EXEMPT.get(str(path), set())
    assert not {name.split(".")[0] for name in imports(path)} & banned


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_import_only_those_before_them(package: str) -> None:
    order = ORDER[package].split()
    upward = [
        f"{path}: {name}"
        for path in FILES
        if path.parts[0] == package
        for name in sorted(set(imports(path)) & MODULES)
        if name.startswith(f"{package}.")
        and order.index(folder(module(path))) < order.index(folder(name))
    ]
    assert not upward


def test_every_folder_has_its_place_in_the_order() -> None:
    for package in PACKAGES:
        folders = {folder(name) for name in MODULES if name.startswith(f"{package}.")}
        assert folders == set(ORDER[package].split())


def test_no_import_cycle_between_modules() -> None:
    graph = {module(path): MODULES & set(imports(path)) - {module(path)} for path in FILES}
    packages = {name for name in MODULES if (ROOT / Path(*name.split("."))).is_dir()}
    # The __init__.py files import no modules, so cycles through packages do not count.
    graph = {name: needed - packages for name, needed in graph.items()}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError for a cycle of imports


def test_the_server_has_the_files_that_its_documentation_names() -> None:
    top = {path.name for path in FILES if path.parts[:-1] == ("server",)}
    modules = ("__init__", "settings", "errors", "logs", "metrics", "context")
    assert top == {f"{name}.py" for name in modules}


def test_cache_index_imports_torch_in_one_file_and_only_when_an_index_needs_it() -> None:
    """Searching the cache on a CPU does not import torch, which needs seconds and memory."""
    assert "torch" in set(imports(Path("cache_index/exact.py")))
    code = "import sys, cache_index.exact, cache_index.service; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_evaluation_imports_only_the_standard_library_numpy_and_pydantic() -> None:
    """The scorers of the evaluation run on machines without torch and vLLM."""
    allowed = {*sys.stdlib_module_names, "numpy", "pydantic"}
    for path in FILES:
        if path.is_relative_to("model_ext/eval"):
            own = {name for name in imports(path) if name.startswith("model_ext.eval")}
            assert {name.split(".")[0] for name in set(imports(path)) - own} <= allowed, path


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 300
