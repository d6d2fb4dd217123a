"""Read the input file of a batch: one JSON object per line, with custom_id, method, url and body.

If a line has a wrong form, the whole batch fails before its first request runs, as in OpenAI's API.
The bodies are checked later, by the route to which each body is sent.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from server.errors import BadRequest

MAX_FAULTS = 100  # Maximum number of faults that the batch object lists.
MAX_CUSTOM_ID = 512  # Maximum number of characters of a custom_id.

Fault = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BatchLine:
    number: int  # line number in the file, from 1
    custom_id: str
    offset: int  # Number of bytes before the line.
    size: int  # Number of bytes of the line.


@dataclass(frozen=True, slots=True)
class LineLimits:
    lines: int  # Maximum number of requests in a file.
    line_bytes: int  # Maximum bytes of one line.


class LineError(ValueError):
    """Raised for a fault of one line. `code` and the message are for the client."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def read_lines(
    file: BinaryIO, endpoint: str, limits: LineLimits
) -> tuple[list[BatchLine], list[Fault]]:
    """Read a whole input file, one line at a time. Returns its lines and its first faults.

    Empty lines are skipped. `endpoint`: the url that each line must have.
    """
    lines: list[BatchLine] = []
    faults: list[Fault] = []
    custom_ids: set[str] = set()
    for number, offset, data in numbered(file, limits.line_bytes):
        try:
            if len(lines) >= limits.lines:
                raise LineError("too_many_lines", f"the file has more than {limits.lines} requests")
            if len(data) > limits.line_bytes:
                raise LineError(
                    "line_too_large", f"the line is longer than {limits.line_bytes} bytes"
                )
            custom_id = checked_custom_id(parse_line(data), endpoint)
            if custom_id in custom_ids:
                raise LineError(
                    "duplicate_custom_id", "an earlier line has the same custom_id", "custom_id"
                )
        except LineError as error:
            faults.append(
                {"code": error.code, "line": number, "message": error.message, "param": error.param}
            )
            if len(faults) >= MAX_FAULTS or error.code in ("too_many_lines", "line_too_large"):
                break
            continue
        custom_ids.add(custom_id)
        lines.append(BatchLine(number, custom_id, offset, len(data)))
    if not lines and not faults:
        faults.append(
            {"code": "empty_file", "line": None, "message": "the file is empty", "param": None}
        )
    return lines, faults


def numbered(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield number, offset and bytes of each line that is not empty. Cuts a longer line after
    `max_bytes` + 1 bytes.
    """
    number = offset = 0
    while data := file.readline(max_bytes + 1):
        number += 1
        if data.strip():
            yield number, offset, data
        offset += len(data)


def parse_line(data: bytes) -> dict[str, Any]:
    """Parse a line. Raises LineError: when it is not a JSON object."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise LineError("invalid_json_line", "the line is not a JSON object")
    return document


def checked_custom_id(document: dict[str, Any], endpoint: str) -> str:
    """Check a line's fields except the body. Raises LineError."""
    custom_id = document.get("custom_id")
    if not isinstance(custom_id, str) or not 1 <= len(custom_id) <= MAX_CUSTOM_ID:
        raise LineError(
            "invalid_custom_id",
            f"custom_id must be a text of 1 to {MAX_CUSTOM_ID} characters",
            "custom_id",
        )
    if document.get("method") != "POST":
        raise LineError("invalid_method", "method must be POST", "method")
    if document.get("url") != endpoint:
        raise LineError("mismatched_url", f"url must be the batch's endpoint, {endpoint}", "url")
    if "body" not in document:
        raise LineError("missing_body", "the line has no body", "body")
    return custom_id


def body_of(descriptor: int, line: BatchLine) -> bytes:
    """Read the body of a line from the open input file, as JSON.

    Raises BadRequest: when the body asks for a stream. Raises OSError.
    """
    data = os.pread(descriptor, line.size, line.offset)
    if len(data) != line.size:
        raise OSError("the input file of a batch has been truncated")
    body = parse_line(data)["body"]
    if isinstance(body, dict) and body.get("stream"):
        raise BadRequest("a batch cannot stream; leave out stream", param="stream")
    return json.dumps(body).encode()
