"""Options and exit codes of all commands, and options of modules with an argparse parser."""

import argparse
import ast
import io
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from enum import Enum
from pathlib import Path
from typing import Any
from unittest import mock

from tests.contract.sources import ROOT, sources
from tests.contract.values import plain

# Commands that fail before they start a process if their arguments name files that do not exist.
FAIL_EARLY = ("serve", "convert", "embed", "cache", "train", "doctor")


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


def calls(tree: ast.AST, method: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name == method:
                yield node
