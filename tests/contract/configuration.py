"""Settings, training options, environment variables, and the files of deployment."""

import ast
import re
import tomllib
from typing import Any

import yaml

from tests.contract.sources import ROOT, sources, tracked
from tests.contract.values import without_texts


def settings() -> Any:
    from server.settings import Settings

    return without_texts(Settings.model_json_schema())


def training() -> Any:
    from model_ext.train.config import TrainConfig
    from model_ext.train.encoders.config import EncodersConfig

    return {
        "train": without_texts(TrainConfig.model_json_schema()),
        "encoders": without_texts(EncodersConfig.model_json_schema()),
    }


def environment_variables() -> list[str]:
    """Return the names of environment variables that the code reads or sets by a constant name."""
    names: set[str] = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Subscript(value=value, slice=ast.Constant(value=str(name))):
                    pass
                case ast.Call(
                    func=ast.Attribute(value=value, attr="get" | "setdefault" | "pop"),
                    args=[ast.Constant(value=str(name)), *_],
                ):
                    pass
                case ast.Compare(
                    left=ast.Constant(value=str(name)),
                    ops=[ast.In() | ast.NotIn()],
                    comparators=[value],
                ):
                    pass
                case _:
                    continue
            if ast.unparse(value) == "os.environ":
                names.add(name)
    return sorted(names)


def ray_arguments() -> Any:
    from deploy.ray.app import Arguments

    return without_texts(Arguments.model_json_schema())


class TagLoader(yaml.SafeLoader):
    """A YAML loader that reads values with Docker Compose's tags (`!reset`) as text."""


TagLoader.add_multi_constructor("!", lambda _, tag, node: f"!{tag} {node.value}")


def deployment_files() -> dict[str, Any]:
    """Return the values in the YAML and JSON files of deploy/, without comments and Helm's
    templates.
    """
    files: dict[str, Any] = {}
    for path in tracked("deploy"):
        if "templates" in path.parts or path.suffix not in {".yaml", ".json"} or path.is_symlink():
            continue
        documents = list(yaml.load_all(path.read_text(), TagLoader))
        files[str(path.relative_to(ROOT))] = without_texts(documents)
    return files


def makefile_targets() -> list[str]:
    return sorted(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def package() -> Any:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        name: project[name]
        for name in ("dependencies", "optional-dependencies", "scripts", "entry-points")
    }
