"""Values of a record: conversion to JSON, without texts for people, and comparison."""

from collections.abc import Iterator
from enum import Enum
from typing import Any

from tests.contract.sources import ROOT

TEXTS = {"help", "short_help", "epilog", "description", "summary", "title", "prompt"}


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
