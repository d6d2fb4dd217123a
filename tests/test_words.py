"""Check names, so that each word has one meaning: some names are forbidden, others may be defined
in one place only.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "model_ext", "cache_index", "deploy")

# No variable may have one of these names, because they do not describe a value.
VAGUE = {"found", "known", "asked", "told"}

# name of a class or function -> the folders in which it may be defined
ONLY_IN: dict[str, tuple[str, ...]] = {"Encoder": ("model_ext/imagebind/",), "Stages": ()}


def files(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return dict(files(*PACKAGES))


def classes(tree: ast.Module) -> list[str]:
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def definitions(tree: ast.Module) -> list[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in ast.walk(tree) if isinstance(node, kinds)]


def assigned(tree: ast.Module) -> list[str]:
    """Return the names of the variables, attributes and parameters of a module."""
    names = []
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.append(name)
            case ast.arg(arg=name):
                names.append(name)
    return names


def is_bound(name: str) -> bool:
    """Whether the name of a constant expresses an upper bound with another word than MAX."""
    words = name.split("_")
    return name.isupper() and ("LARGEST" in words or "MOST" in (words[0], words[-1]))


def test_no_two_public_classes_of_the_server_share_a_name(modules: dict[str, ast.Module]) -> None:
    places = defaultdict(list)
    for path, tree in modules.items():
        for name in classes(tree):
            if path.startswith("server/") and not name.startswith("_"):
                places[name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("name", sorted(ONLY_IN))
def test_these_names_have_one_place(modules: dict[str, ast.Module], name: str) -> None:
    elsewhere = {
        path
        for path, tree in modules.items()
        if name in definitions(tree) and not path.startswith(ONLY_IN[name])
    }
    assert elsewhere == set()


def test_each_package_has_at_most_one_config_error(modules: dict[str, ast.Module]) -> None:
    paths = [path for path, tree in modules.items() if "ConfigError" in classes(tree)]
    packages = [path.split("/")[0] for path in paths]
    assert len(set(packages)) == len(packages), paths
    assert "model_ext/errors.py" in paths


def test_media_errors_are_the_servers(modules: dict[str, ast.Module]) -> None:
    paths = [path for path, tree in modules.items() if "MediaError" in classes(tree)]
    assert paths == ["server/encoding/decode/pool.py"]


def test_variables_are_nouns(modules: dict[str, ast.Module]) -> None:
    paths = {path for path, tree in modules.items() if VAGUE & set(assigned(tree))}
    assert paths == set()


def test_upper_bounds_are_named_max(modules: dict[str, ast.Module]) -> None:
    paths = {path for path, tree in modules.items() if any(map(is_bound, assigned(tree)))}
    assert paths == set()


def test_the_checks_see_such_names() -> None:
    tree = ast.parse("MOST_SPANS = 3\nBYTES_MOST: int = 2\nMAX_X = 1\ndef f(told): self.known = 1")
    assert [name for name in assigned(tree) if is_bound(name)] == ["MOST_SPANS", "BYTES_MOST"]
    assert VAGUE & set(assigned(tree)) == {"told", "known"}
