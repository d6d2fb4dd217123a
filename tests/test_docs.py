"""The commands, options, files and settings that the documents mention do exist.

Reads the console blocks and the `inline code` of the documents. The tests run no commands: the
parsers of `bindserve` parse its commands, and other options are searched in the source code.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.contract.command_line import leaves

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "model_ext/demo/MODEL_CARD.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
DOCUMENTS = [path for path in DOCUMENTS if path.exists()]
FENCE = re.compile(r"^```(\w*)$")
PROMPT = re.compile(r"^(?:[a-z]+)?\$ +")
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
SETTING = re.compile(r"\bBINDSERVE_[A-Z0-9_]+\b")
SEPARATORS = {"&&", "||", "|", ";", "&"}
# Paths in the documents that start with one of these folders must exist.
TREES = ("server/", "model_ext/", "cache_index/", "deploy/", "docs/", "tests/")


@dataclass(frozen=True, slots=True)
class Command:
    place: str  # the name of the document, and a line number
    words: tuple[str, ...]
    complete: bool  # False for inline code, because it may omit arguments

    def __str__(self) -> str:
        return f"{self.place} {' '.join(self.words)[:60]}"


def prose_and_blocks(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, language of the code block or "", line) of a document."""
    language: str | None = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if fence := FENCE.match(line):
            language = None if language is not None else fence[1]
        else:
            yield number, language or "", line


def commands() -> Iterator[Command]:
    for path in DOCUMENTS:
        lines = list(prose_and_blocks(path))
        for index, (number, language, line) in enumerate(lines):
            place = f"{path.relative_to(ROOT)}:{number}"
            if language == "console" and PROMPT.match(line):
                text = PROMPT.sub("", line)
                following = (later for _, _, later in lines[index + 1 :])
                while (words := split(text)) is None:
                    text = f"{text.removesuffix(chr(92))}\n{next(following)}"
                yield from (Command(place, each, True) for each in simple_commands(words))
            elif not language:
                for code in INLINE.findall(line):
                    words = split(code) or []
                    yield from (Command(place, each, False) for each in simple_commands(words))


def split(text: str) -> list[str] | None:
    """Split a line as a shell does. Return None if the command continues on the next line."""
    if text.endswith("\\"):
        return None
    try:
        lexer = shlex.shlex(text, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        return list(lexer)
    except ValueError:  # the line ends inside a quotation
        return None


def simple_commands(words: list[str]) -> Iterator[tuple[str, ...]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in SEPARATORS:
            command.append(word)
        elif command:
            yield tuple(command)
            command = []


COMMANDS = list(commands())


def commands_of(*words: str) -> list[Any]:
    chosen = [each for each in COMMANDS if each.words[: len(words)] == words]
    return [pytest.param(each, id=str(each)) for each in chosen]


def test_the_documents_have_commands() -> None:
    programs = [command.words[0] for command in COMMANDS if command.complete]
    assert programs.count("bindserve") >= 5
    assert programs.count("make") >= 1


@cache
def bindserve_commands() -> dict[str, Any]:
    return dict(leaves())


@pytest.mark.parametrize("command", commands_of("bindserve"))
def test_bindserve_commands_exist(command: Command) -> None:
    words = [word for word in command.words[1:] if word != "..."]
    if not words or words[0].isupper():
        return  # the command is `bindserve` or `bindserve COMMAND --help`
    if words[0] == "eval" and "://" in "".join(words[1:2]):
        words.insert(1, "ask")  # `bindserve eval URL` means `bindserve eval ask URL`
    names = bindserve_commands()
    name = next((n for n in (" ".join(words[:2]), words[0]) if n in names), None)
    if name is None:  # the command is a group of commands, e.g. `bindserve cache`
        assert len(words) == 1
        assert any(each.startswith(f"{words[0]} ") for each in names)
        return
    arguments = words[len(name.split()) :]
    own, vllm = arguments, list[str]()
    if "--" in arguments:
        position = arguments.index("--")
        own, vllm = arguments[:position], arguments[position + 1 :]
    if command.complete and "--help" not in own:
        names[name].make_context(name, own)  # raises UsageError for bad options
    options = {
        option for item in names[name].params for option in (*item.opts, *item.secondary_opts)
    }
    assert options_of(own) <= options | {"--help"}
    assert options_of(vllm) <= vllm_options()


def options_of(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if word.startswith("-") and word != "-"}


@cache
def vllm_options() -> set[str]:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser())
    return set(parser._option_string_actions)


@pytest.mark.parametrize("command", commands_of("make"))
def test_make_targets_exist(command: Command) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in command.words[1:] if "=" not in word} <= set(targets)


@pytest.mark.parametrize("command", commands_of("python", "-m"))
def test_python_modules_exist(command: Command) -> None:
    module, *arguments = command.words[2:]
    assert find_spec(module) is not None
    name = module.replace(".", "/")
    sources = [ROOT / f"{name}.py", ROOT / name / "__main__.py"]
    # `python -m deploy.loadtest.run` also accepts the options of locustfile.py.
    sources += [ROOT / name / "locustfile.py"]
    assert any(path.is_file() for path in sources[:2])
    options = {option for path in sources if path.is_file() for option in argparse_options(path)}
    assert options_of(arguments) <= options | {"--help"}


def argparse_options(path: Path) -> Iterator[str]:
    """Yield the strings that a module passes to `add_argument`."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="add_argument"), args=names):
                yield from (name.value for name in names if isinstance(name, ast.Constant))


@pytest.mark.parametrize("command", commands_of("serve", "run"))
def test_ray_applications_exist(command: Command) -> None:
    from deploy.ray.app import Arguments

    module, _, function = command.words[2].partition(":")
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names = {word.split("=")[0] for word in command.words[3:] if not word.startswith("-")}
    assert names <= Arguments.model_fields.keys()


@pytest.mark.parametrize("command", commands_of("deploy/install.sh"))
def test_extras_exist(command: Command) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(command.words[2:]) <= project["optional-dependencies"].keys()


def test_bindserve_is_not_installed_from_an_index() -> None:
    """Documents do not install `bindserve` from a package index, because no index has it."""
    installs = [c for c in COMMANDS if c.words[:2] == ("pip", "install")]
    assert not [c for c in installs if any(w.startswith("bindserve") for w in c.words[2:])]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_exist(path: Path) -> None:
    """Checks links, and paths in code that start with a folder of the repository."""
    text = path.read_text()
    links = {link for link in LINK.findall(text) if "://" not in link}
    missing = {link for link in links if not (path.parent / link).exists()}
    words = {word for command in COMMANDS for word in command.words if in_document(command, path)}
    missing |= {word for word in words if word.startswith(TREES) and not exists(word)}
    assert not missing


def in_document(command: Command, path: Path) -> bool:
    return command.place.startswith(f"{path.relative_to(ROOT)}:")


def exists(word: str) -> bool:
    """Whether a path or pattern matches a file. A part in upper case matches any name."""
    name = re.sub(r"[A-Z][A-Z_]+", "*", word).rstrip(",.:")
    return any(ROOT.glob(name.rstrip("/")))


@pytest.mark.parametrize("command", commands_of("cd"))
def test_scripts_of_a_folder_exist(command: Command) -> None:
    """`cd FOLDER && ./script`"""
    following = COMMANDS[COMMANDS.index(command) + 1]
    assert (ROOT / command.words[1]).is_dir()
    if following.words[0].startswith("./"):
        assert (ROOT / command.words[1] / following.words[0]).is_file()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_environment_variables_exist(path: Path) -> None:
    from server.settings import Settings

    fields = {f"BINDSERVE_{name.upper()}" for name in Settings.model_fields}
    others = {"BINDSERVE_DEVICE", "BINDSERVE_VENV_OPTIONS", "BINDSERVE_DEMO_FOLDER"}
    assert set(SETTING.findall(path.read_text())) <= fields | others
