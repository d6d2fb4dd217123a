"""Record the public interface as JSON, without texts, and compare two records.

    python -m tests.contract.record interface.json
    python -m tests.contract.record interface.json --compare earlier.json

The record holds the options, types and defaults of every command, the exit codes of wrong
invocations, the paths, schemas and status codes of the HTTP API, the names of settings, training
options, environment variables and metrics, and the values of the deployment files. It omits texts
for people (help, descriptions, titles), so that changed texts make no difference. The program
starts no engine and no server. With --compare, it prints each difference and exits with status 1 if
there is any.
"""

import argparse
import ast
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml

ROOT = Path(__file__).parents[2]
PACKAGES = ("server", "model_ext", "cache_index", "deploy", "tests/deploy", "tests/serving")
TEXTS = {"help", "short_help", "epilog", "description", "summary", "title", "prompt"}
# Commands that fail before they start a process if their arguments name files that do not exist.
FAIL_EARLY = ("serve", "convert", "embed", "cache", "train", "doctor")
METRIC_TYPES = {"Counter", "Gauge", "Histogram"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="the JSON file to write")
    parser.add_argument("--compare", type=Path, help="an earlier record to compare with")
    options = parser.parse_args()
    options.out.write_text(json.dumps(record(), indent=1, sort_keys=True, default=str) + "\n")
    if options.compare:
        before, after = (json.loads(path.read_text()) for path in (options.compare, options.out))
        changes = list(differences(before, after))
        print("\n".join(changes) or "no differences")
        sys.exit(bool(changes))


def record() -> dict[str, Any]:
    """Return the sections of the record by name."""
    sections: dict[str, Callable[[], Any]] = {
        "commands": commands,
        "exit_codes": exit_codes,
        "modules": argparse_modules,
        "loadtest_options": loadtest_options,
        "settings": settings,
        "training": training,
        "environment": environment_variables,
        "http": http,
        "cache_service": cache_service,
        "metrics": metrics,
        "ray": ray_arguments,
        "files": deployment_files,
        "makefile": makefile_targets,
        "package": package,
    }
    return {name: section() for name, section in sections.items()}


# ---------------------------------------------------------------- command line


def leaves() -> Iterator[tuple[str, Any]]:
    """Yield the name and the click command of every `bindserve` command without subcommands."""
    import typer

    from server.cli.main import app

    yield from walk("", typer.main.get_command(app))


def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    # `bindserve` imports a command's module only when click creates the command's context
    command = command.make_context(name or "bindserve", [], resilient_parsing=True).command
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    context = command.make_context(name or "bindserve", [], resilient_parsing=True)
    for child in command.list_commands(context):
        yield from walk(f"{name} {child}".strip(), command.get_command(context, child))


def commands() -> dict[str, Any]:
    return {name: [parameter(item) for item in command.params] for name, command in leaves()}


def parameter(item: Any) -> dict[str, Any]:
    names = ("param_type_name", "opts", "secondary_opts", "required", "nargs", "multiple")
    names += ("default", "envvar", "is_flag", "count", "hidden", "min", "max")
    described = {name: plain(getattr(item, name, None)) for name in names}
    return {**described, "type": annotation(item.type_descriptor.annotation)}


def annotation(kind: Any) -> Any:
    """Return the values of an enumeration, or the name of any other type."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    return getattr(kind, "__name__", str(kind))


def exit_codes() -> dict[str, Any]:
    """Return three exit codes of a command: for an unknown option, for no arguments, and for
    required values that name no existing file.
    """
    codes: dict[str, Any] = {}
    for name, command in leaves():
        required = [item for item in command.params if item.required]
        codes[f"{name} --no-such-option"] = exit_code(command, ["--no-such-option"])
        if required:
            codes[name] = exit_code(command, [])
        if required and name.split()[0] in FAIL_EARLY:
            codes[f"{name} (missing files)"] = exit_code(command, missing_files(required))
    return codes


def missing_files(required: list[Any]) -> list[str]:
    values: list[str] = []
    for number, item in enumerate(required):
        value = str(Path(tempfile.gettempdir(), "no-such-folder", f"value-{number}"))
        values += [value] if item.param_type_name == "argument" else [item.opts[0], value]
    return values


def exit_code(command: Any, arguments: list[str]) -> Any:
    """Return the exit status, or the name of an exception that the command did not handle."""
    silence = io.StringIO()
    try:
        with redirect_stdout(silence), redirect_stderr(silence):
            command.main(arguments, prog_name="bindserve", standalone_mode=True)
    except SystemExit as end:
        return end.code
    except Exception as error:
        return type(error).__name__
    return 0


class Captured(Exception):
    """Raised instead of parsing arguments, to end the function that has built a parser. Contains
    this parser.
    """


def argparse_modules() -> dict[str, Any]:
    """Return the options of each module that has an argparse parser and is started by `python
    -m`.
    """
    modules: dict[str, Any] = {}
    for path in sources():
        text = path.read_text()
        if "argparse.ArgumentParser(" not in text or '__name__ == "__main__"' not in text:
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        modules[name.removesuffix(".__main__")] = captured_options(name)
    return modules


def captured_options(name: str) -> Any:
    """Run a module up to its first call of `parse_args` and describe that parser."""

    def capture(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> Any:
        raise Captured(parser)

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", capture),
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", capture),
        mock.patch.object(sys, "argv", [name]),
        mock.patch.dict(os.environ),
    ):
        try:
            runpy.run_module(name, run_name="__main__")
        except Captured as captured:
            return parser_options(captured.args[0])
        except ImportError as error:
            return f"not recorded: {error.name} is not installed"
    return "not recorded, because the module parses no arguments"


def parser_options(parser: argparse.ArgumentParser) -> Any:
    options: list[Any] = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            options.append({name: parser_options(child) for name, child in action.choices.items()})
        elif not isinstance(action, argparse._HelpAction):
            options.append(
                {
                    "opts": action.option_strings or [action.dest],
                    "type": getattr(action.type, "__name__", None),
                    "choices": plain(action.choices),
                    "default": plain(action.default),
                    "required": action.required,
                    "nargs": action.nargs,
                    "action": type(action).__name__,
                }
            )
    return options


def loadtest_options() -> list[str]:
    """Return the options that locustfile.py adds. Reads them from the source, because importing
    locust patches sockets.
    """
    tree = ast.parse((ROOT / "deploy/loadtest/locustfile.py").read_text())
    options = []
    for call in calls(tree, "add_argument"):
        keywords = [f"{word.arg}={ast.unparse(word.value)}" for word in call.keywords]
        names = [ast.unparse(name) for name in call.args]
        options.append(" ".join(names + [word for word in keywords if word[:5] != "help="]))
    return sorted(options)


# ---------------------------------------------------------------- configuration


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


# ---------------------------------------------------------------- HTTP and metrics


def http() -> Any:
    """Return the OpenAPI document of an application with fake components, and the routes that are
    not in the document.
    """
    from tests.server.application import serve

    app = serve().app
    return {"openapi": without_texts(app.openapi()), "routes": routes(app)}


def cache_service() -> Any:
    from cache_index.metrics import CacheMetrics
    from cache_index.service import create_app

    owner: Any = SimpleNamespace(waiting=0, index=[], aclose=None)
    return routes(create_app(owner, CacheMetrics(), token="token"))


def routes(app: Any) -> list[str]:
    return sorted(
        f"{','.join(sorted(getattr(route, 'methods', None) or ()))} {route.path}"
        for route in app.routes
    )


def metrics() -> list[str]:
    """Return name, labels, buckets and mode of each of bindserve's metrics, read from the calls
    that declare them.
    """
    declared: list[str] = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in METRIC_TYPES and node.args:
                rest = [ast.unparse(item) for item in node.args[2:]]
                rest += [
                    f"{word.arg}={ast.unparse(word.value)}"
                    for word in node.keywords
                    if word.arg not in {"documentation", "registry"}
                ]
                if "bindserve" in (name := ast.unparse(node.args[0])):
                    declared.append(" ".join([ast.unparse(node.func), name, *rest]))
    return sorted(declared) + exposed_metrics()


def exposed_metrics() -> list[str]:
    """Return names and types of the metrics that the two servers expose before the first
    request.
    """
    from prometheus_client import generate_latest

    import server.metrics  # noqa: F401
    from cache_index.metrics import CacheMetrics

    cache = CacheMetrics()
    cache.watch(SimpleNamespace(waiting=0, index=[]))  # type: ignore[arg-type]
    text = (generate_latest() + cache.text()).decode()
    return sorted(re.findall(r"^# TYPE (bindserve_.*)$", text, re.MULTILINE))


# ---------------------------------------------------------------- helpers


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in tracked(package) if path.suffix == ".py"]


def tracked(folder: str) -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "--", folder]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def calls(tree: ast.AST, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name == method:
                yield node


def without_texts(value: Any, *, names: bool = False) -> Any:
    """Remove the texts for people (titles, descriptions). If `names` is true, the keys of `value`
    are names of fields, so a key `title` is kept.
    """
    if isinstance(value, dict):
        return {
            str(key): without_texts(item, names=key in {"properties", "$defs", "schemas"})
            for key, item in value.items()
            if names or not (key in TEXTS and isinstance(item, str))
        }
    if isinstance(value, list):
        return [without_texts(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """Convert a value into one that JSON can represent."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return plain(value.value) if isinstance(value, Enum) else str(value).replace(f"{ROOT}/", "")


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            if key not in after:
                yield f"- {path}/{key}: {before[key]!r:.200}"
            elif key not in before:
                yield f"+ {path}/{key}: {after[key]!r:.200}"
            else:
                yield from differences(before[key], after[key], f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        for item in (item for item in before if item not in after):
            yield f"- {path}: {item!r:.400}"
        for item in (item for item in after if item not in before):
            yield f"+ {path}: {item!r:.400}"
    elif before != after:
        yield f"~ {path}: {before!r:.200} -> {after!r:.200}"


if __name__ == "__main__":
    main()
