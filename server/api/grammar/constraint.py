"""Read the grammars from a request's JSON and from vLLM's structured outputs, and check them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from vllm import envs
from vllm.exceptions import GracefulHTTPError, VLLMError, VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.backend_xgrammar import (
    XgrammarBackend,
    has_xgrammar_unsupported_json_features,
)
from vllm.v1.structured_output.utils import choice_as_grammar, grammar_is_likely_lark

from server.api.grammar.checker import Grammar, GrammarChecker
from server.api.grammar.limits import Constraint, constraints
from server.context import current
from server.engine.llm import ConditionedLLM
from server.errors import BadRequest, RequestError
from server.settings import Settings


@asynccontextmanager
async def open_checker(engine: Any, settings: Settings) -> AsyncIterator[GrammarChecker | None]:
    """Open the grammar checker. Yields None if the engine does not use xgrammar for structured
    outputs.
    """
    if (
        not isinstance(engine, ConditionedLLM)
        or engine.renderer.tokenizer is None
        or engine.vllm_config.structured_outputs_config.backend != "xgrammar"
    ):
        yield None
        return
    cache_bytes = envs.VLLM_XGRAMMAR_CACHE_MB << 20
    checker = GrammarChecker(lambda: start_message(engine), settings.grammar, cache_bytes)

    async def check(outputs: StructuredOutputsParams) -> StructuredOutputsParams:
        try:
            return await check_outputs(outputs, checker, current().grammar_field)
        except RequestError as error:
            raise to_vllm_error(error) from None

    engine.check_outputs_with(check)
    try:
        yield checker
    finally:
        await checker.close()


def to_vllm_error(error: RequestError) -> VLLMError:
    """Convert an error to vLLM's exception with the same status. In a stream, vLLM's handler
    reports every other exception as status 500.
    """
    if isinstance(error, BadRequest):
        return VLLMValidationError(error.message, parameter=error.param)
    return GracefulHTTPError(error.message, HTTPStatus(error.status))


def start_message(engine: ConditionedLLM) -> dict[str, Any]:
    """Create the first message to the process that compiles grammars: the tokenizer, as vLLM passes
    it to xgrammar.
    """
    config = engine.vllm_config
    backend = XgrammarBackend(
        config, engine.renderer.tokenizer, config.model_config.get_vocab_size()
    )
    # xgrammar's compiler has no accessor for its tokenizer, but a compiled grammar has one.
    tokenizer = backend.compiler.compile_grammar('root ::= "a"').tokenizer_info
    return {
        "tokenizer": tokenizer.serialize_json(),
        "any_whitespace": not backend.disable_any_whitespace,
    }


async def check_constraints(document: dict[str, Any], checker: GrammarChecker | None) -> None:
    """Check the constraints (grammars and schemas) in a request's JSON by compiling them, before
    vLLM reads the JSON.

    Raises BadRequest, TooManyRequests, Unavailable.
    """
    if checker is None:
        return
    if document.get("tools"):
        current().grammar_field = "tools"
    for constraint in constraints(document):
        if not constraint.compiled:
            continue
        # This takes long for a schema of a megabyte, so it runs in a thread.
        grammar = await asyncio.to_thread(grammar_of_constraint, constraint)
        if grammar is not None:
            current().grammar_field = constraint.field
            await checker.check(grammar, constraint.field)


def grammar_of_constraint(constraint: Constraint) -> Grammar | None:
    """Return the constraint's grammar. Returns None for a value of a wrong type, because vLLM
    rejects such values.
    """
    value: Any = constraint.value
    match constraint.source, value:
        case "json", (dict() | str()):
            return json_grammar(value, constraint.field)
        case "choice", list() if value and all(isinstance(each, str) for each in value):
            return Grammar("grammar", choice_as_grammar(value))
        case "regex", str():
            return Grammar("regex", value)
        case "grammar", str():
            return text_grammar(value)
        case "structural_tag", str():
            return Grammar("structural_tag", value)
        case "structural_tag", {"type": "structural_tag"}:
            return Grammar("structural_tag", json.dumps(value))
    return None


async def check_outputs(
    outputs: StructuredOutputsParams, checker: GrammarChecker, field: str
) -> StructuredOutputsParams:
    """Check a request's grammar before the request is sent to the engine.

    Returns `outputs` with the text that was checked, so that the engine compiles exactly this text.
    Raises BadRequest, TooManyRequests, Unavailable.
    """
    if outputs.json_object:
        grammar = Grammar("json", '{"type": "object"}')
    elif outputs.json is not None:
        grammar = await asyncio.to_thread(json_grammar, outputs.json, field)
        outputs = replace(outputs, json=grammar.spec)
    elif outputs.choice:
        grammar = Grammar("grammar", choice_as_grammar(outputs.choice))
        outputs = replace(outputs, choice=None, grammar=grammar.spec)
    elif outputs.regex is not None:
        grammar = Grammar("regex", outputs.regex)
    elif outputs.grammar:
        grammar = text_grammar(outputs.grammar)
    elif outputs.structural_tag:
        grammar = Grammar("structural_tag", outputs.structural_tag)
    else:
        raise BadRequest(f"{field} is empty", param=field)
    await checker.check(grammar, field)
    outputs._backend = "xgrammar"
    return outputs


def text_grammar(text: str) -> Grammar:
    return Grammar("lark" if grammar_is_likely_lark(text) else "grammar", text)


def json_grammar(schema: dict[str, Any] | str, field: str) -> Grammar:
    """Return the grammar of a JSON schema. Removes `multipleOf`, which OpenAI's API accepts and
    xgrammar cannot enforce. Raises BadRequest: for keywords that xgrammar would ignore.
    """
    try:
        document = json.loads(schema) if isinstance(schema, str) else schema
    except (ValueError, RecursionError):
        raise BadRequest(f"{field} is not JSON", param=field) from None
    if not isinstance(document, dict):
        raise BadRequest(f"{field} is not a JSON object", param=field)
    document = without_multiples(document)
    if has_xgrammar_unsupported_json_features(document):
        raise BadRequest(
            f"{field} has a keyword that this server cannot enforce: uniqueItems, contains, "
            f"a format, several allOf, or a combination of patterns and lengths",
            param=field,
            code="invalid_grammar",
        )
    return Grammar("json", json.dumps(document))


def without_multiples(schema: Any) -> Any:
    """Copy the schema without `multipleOf`. The recursion ends: limits.py limits the schema's
    depth.
    """
    if isinstance(schema, list):
        return [without_multiples(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_multiples(value)
        for key, value in schema.items()
        if key != "multipleOf" or not isinstance(value, int | float)
    }
