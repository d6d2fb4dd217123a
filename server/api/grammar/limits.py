"""Limit the size of each grammar and JSON schema in a request, before vLLM compiles it.

This module counts bytes, alternatives, levels, repetitions and characters, without recursion and
without compiling. The limits allow every schema that OpenAI's published limits for structured
outputs allow: 5,000 properties in 10 levels, 1,000 enum values, and 120,000 characters of names,
enum values and constants.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from server.api.grammar.text_size import text_size
from server.errors import BadRequest
from server.settings import GrammarLimits

Source = Literal["json", "regex", "choice", "grammar", "structural_tag"]
KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")
BRANCHES = ("anyOf", "oneOf", "allOf", "prefixItems", "elements", "tags", "structures", "triggers")
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
# Keys of a structural tag or a tool whose value is a JSON schema.
SCHEMAS = frozenset({"json_schema", "schema", "parameters", "input_schema"})
MAX_REFERENCES = 100  # maximum number of references in a chain of `$ref`


@dataclass(frozen=True, slots=True)
class Constraint:
    field: str
    source: Source
    value: Any
    compiled: bool = True  # vLLM compiles tools' schemas only if the request forces a tool call


def constraints(document: Mapping[str, Any]) -> Iterator[Constraint]:
    """Yield the constraints in a request to any route. Skips fields of a wrong type, because vLLM
    rejects them.
    """
    outputs = mapping(document.get("structured_outputs"))
    for source in ("json", "regex", "choice", "grammar", "structural_tag"):
        if outputs.get(source) is not None:
            yield Constraint(f"structured_outputs.{source}", source, outputs[source])
    pattern = outputs.get("whitespace_pattern")
    if pattern is not None:
        yield Constraint("structured_outputs.whitespace_pattern", "regex", pattern, False)
    response_format = mapping(document.get("response_format"))
    if response_format.get("type") == "json_schema":
        wrapper = mapping(response_format.get("json_schema"))
        yield from _schema("response_format.json_schema.schema", wrapper)
    elif response_format:
        yield Constraint("response_format", "structural_tag", dict(response_format))
    text = mapping(document.get("text"))
    yield from _schema("text.format.schema", mapping(text.get("format")))
    config = mapping(document.get("output_config"))
    yield from _schema("output_config.format.schema", mapping(config.get("format")))
    tools = document.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict):
            yield Constraint(f"tools[{index}]", "structural_tag", tool, False)


def _schema(field: str, wrapper: Mapping[str, Any]) -> Iterator[Constraint]:
    for name in ("schema", "json_schema"):
        if wrapper.get(name) is not None:
            yield Constraint(field, "json", wrapper[name])


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def check_grammars(document: Mapping[str, Any], limits: GrammarLimits) -> None:
    """Check each constraint, and the total bytes of all constraints.

    Raises BadRequest, which names the field: when a constraint exceeds a limit.
    """
    check_one_kind(document.get("structured_outputs"))
    size = 0
    for constraint in constraints(document):
        bounds = Bounds(constraint.field, limits, size)
        bounds.check(constraint.source, constraint.value)
        size = bounds.size


def check_one_kind(outputs: Any) -> None:
    """Check that `structured_outputs` has exactly one constraint. Raises BadRequest."""
    if not isinstance(outputs, dict):
        return
    given = [kind for kind in KINDS if outputs.get(kind) is not None]
    if len(given) != 1:
        raise BadRequest(
            f"structured_outputs must have exactly one of {', '.join(KINDS)}",
            param="structured_outputs",
        )
    (kind,) = given
    if outputs[kind] in (False, []):
        raise BadRequest(f"structured_outputs.{kind} is empty", param=f"structured_outputs.{kind}")


class Bounds:
    """Counts the properties, alternatives and characters of one constraint, and checks the sums."""

    def __init__(self, field: str, limits: GrammarLimits, size: int) -> None:
        """`size`: the total bytes of the request's constraints that have been checked already."""
        self._field, self._limits = field, limits
        self._properties = self._alternatives = self._characters = 0
        self.size = size

    def check(self, source: Source, value: Any) -> None:
        match source, value:
            case "regex", str():
                self._check_text(value, self._limits.regex_bytes, quoted=False)
            case "grammar", str():
                self._check_text(value, self._limits.grammar_bytes, quoted=True)
            case "choice", list():
                self._add(alternatives=len(value))
                for each in value:
                    self._add(characters=len(each) if isinstance(each, str) else 0)
            case (("json" | "structural_tag"), str()):
                if len(value) > self._limits.schema_bytes:
                    self._reject(f"has more than {self._limits.schema_bytes} bytes")
                try:
                    parsed = json.loads(value)
                except (ValueError, RecursionError):
                    self._reject("is not JSON, or has too many levels")
                self._walk(parsed)
            case (("json" | "structural_tag"), (dict() | list())):
                self._walk(value)

    def _check_text(self, text: str, max_bytes: int, *, quoted: bool) -> None:
        limits = self._limits
        if len(text.encode(errors="replace")) > max_bytes:
            self._reject(f"has more than {max_bytes} bytes")
        size = text_size(text, quoted=quoted)
        if size.nesting > limits.nesting:
            self._reject(f"has more than {limits.nesting} nested groups")
        if size.alphabet > limits.alphabet:
            self._reject(f"has more than {limits.alphabet} characters in classes")
        if not quoted and size.positions > limits.repetitions:
            self._reject(f"has more than {limits.repetitions} characters or repetitions")
        if quoted and size.positions > max(limits.repetitions, limits.grammar_bytes):
            self._reject(f"has more than {limits.repetitions} repetitions")
        self._add(alternatives=size.alternatives)

    def _walk(self, schema: Any) -> None:
        """Count the parts of a JSON schema or a structural tag, level by level."""
        # pairs of a part, and the schema that contains the part
        level, depth = [(schema, schema)] if isinstance(schema, dict | list) else [], 0
        while level:
            if depth > self._limits.nesting:
                self._reject(f"has more than {self._limits.nesting} levels")
            deeper: list[tuple[Any, Any]] = []
            for node, root in level:
                items = list(node.items() if isinstance(node, dict) else enumerate(node))
                if isinstance(node, dict):
                    self._add_object(node, root)
                self._add(size=2 + sum(size_of(child) for _, child in items))
                deeper += [
                    (child, child if key in SCHEMAS else root)
                    for key, child in items
                    if isinstance(child, dict | list)
                ]
            level, depth = deeper, depth + 1

    def _add_object(self, node: dict[str, Any], schema: Any) -> None:
        self._add(size=sum(map(len, node)))
        for name in NAMED:
            names = node.get(name)
            if isinstance(names, dict):
                self._add(properties=len(names), characters=sum(map(len, names)))
        for name in BRANCHES:
            branches = node.get(name)
            if isinstance(branches, list):
                self._add(alternatives=len(branches))
        values = node.get("enum")
        if isinstance(values, list):
            self._add(alternatives=len(values), characters=sum(map(characters_of, values)))
        for name in ("const", "begin", "end", "value"):
            if isinstance(text := node.get(name), str):
                self._add(characters=len(text))
        if isinstance(pattern := node.get("pattern"), str):
            self._check_text(pattern, self._limits.regex_bytes, quoted=False)
        for name in ("grammar", "definition"):
            if isinstance(grammar := node.get(name), str):
                self._check_text(grammar, self._limits.grammar_bytes, quoted=True)
        if isinstance(reference := node.get("$ref"), str):
            self._check_reference(reference, schema)

    def _check_reference(self, reference: str, schema: Any) -> None:
        """Reject references to other documents, and references that lead only to references."""
        for _ in range(MAX_REFERENCES):
            if not reference.startswith("#"):
                self._reject("has a $ref to another document; use #/$defs/NAME")
            target = resolve(reference, schema)
            following = target.get("$ref") if isinstance(target, dict) else None
            if not isinstance(following, str):
                return
            reference = following
        self._reject("has a $ref that refers to itself")

    def _add(
        self, *, properties: int = 0, alternatives: int = 0, characters: int = 0, size: int = 0
    ) -> None:
        limits = self._limits
        self._properties += properties
        self._alternatives += alternatives
        self._characters += characters
        self.size += size
        if self._properties > limits.properties:
            self._reject(f"has more than {limits.properties} properties")
        if self._alternatives > limits.alternatives:
            self._reject(f"has more than {limits.alternatives} alternatives")
        if self._characters > limits.characters:
            self._reject(
                f"has more than {limits.characters} characters in names, values and choices"
            )
        if self.size > limits.schema_bytes:
            self._reject(f"makes the schemas larger than {limits.schema_bytes} bytes in total")

    def _reject(self, message: str) -> NoReturn:
        raise BadRequest(f"{self._field} {message}", param=self._field, code="grammar_too_large")


def characters_of(value: Any) -> int:
    return len(value) if isinstance(value, str) else 1


def size_of(value: Any) -> int:
    """Return the approximate size of a value in JSON, in bytes. For an object or a list, does not
    count the values in it.
    """
    return len(value) + 3 if isinstance(value, str) else 4


def resolve(reference: str, schema: Any) -> Any:
    """Return the part of the schema at a JSON pointer such as `#/$defs/a`, or None."""
    target = schema
    for name in reference[1:].split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        target = target.get(name) if isinstance(target, dict) else None
    return target
