"""The results of a batch's lines: files to which one line of JSON is appended per request.

A killed server leaves at most one incomplete line at the end of each file, which is cut off when
the batch resumes. The line numbers in the files show which requests have results and do not run
again.
"""

import json
import os
import re
import threading
from pathlib import Path
from typing import Self

from server.api.batches.in_process import BatchAnswer
from server.api.batches.lines import BatchLine

LINE_ID = re.compile(rb'\{"id": "batch_req_[0-9a-f]{32}_([0-9]{1,9})", ')
HEAD = 64  # enough bytes for a match of LINE_ID
FULL = "the results of this batch would exceed the limit for stored files"


class ResultFile:
    """A file of results. The methods block on the disk. One thread at a time may use it."""

    def __init__(self, descriptor: int, size: int, numbers: set[int]) -> None:
        self.size = size
        self.numbers = numbers  # line numbers of the requests whose results are in the file
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create a file. Cuts off an incomplete last line. Raises OSError."""
        numbers, size = read_results(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, size)
        return cls(descriptor, size, numbers)

    def append(self, number: int, data: bytes) -> None:
        """Append the result of a request. Raises OSError: when the disk is full; the file is then
        unchanged.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)
        self.numbers.add(number)

    def close(self) -> None:
        """Write the file to the disk and close it."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


class BatchResults:
    """The output file and the error file of one batch. Each request gets one line in one of them.

    The methods block on the disk. Several threads may use an object.
    """

    def __init__(self, digits: str, output: ResultFile, errors: ResultFile, max_bytes: int) -> None:
        """`digits`: the hexadecimal digits of the batch's id. `max_bytes`: maximum size of both
        files together. A result that would exceed it is replaced by an error.
        """
        self._digits = digits
        self._output, self._errors = output, errors
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._closed = False

    @property
    def completed(self) -> int:
        return len(self._output.numbers)

    @property
    def failed(self) -> int:
        return len(self._errors.numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._output.numbers or number in self._errors.numbers

    def add(self, line: BatchLine, answer: BatchAnswer) -> None:
        """Store a response, unless the request already has a result. Raises OSError."""
        data = response_line(self._digits, line, answer)
        file = self._output if answer.status < 400 else self._errors
        if self.size + len(data) > self._max_bytes:
            return self.add_error(line, "output_too_large", FULL)
        self._append(file, line, data)

    def add_error(self, line: BatchLine, code: str, message: str) -> None:
        """Store that a request did not run, unless the request already has a result. Raises
        OSError.
        """
        self._append(self._errors, line, error_line(self._digits, line, code, message))

    @property
    def size(self) -> int:
        return self._output.size + self._errors.size

    def _append(self, file: ResultFile, line: BatchLine, data: bytes) -> None:
        with self._lock:
            # The thread of a cancelled request may run this code after the batch has ended.
            if not self._closed and line.number not in self:
                file.append(line.number, data)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._output.close()
            self._errors.close()


def read_results(path: Path) -> tuple[set[int], int]:
    """Return the line numbers in a file of results, and the size of its complete lines in bytes."""
    numbers: set[int] = set()
    size = 0
    if path.exists():
        with path.open("rb") as file:
            for data in file:
                match = LINE_ID.match(data[:HEAD])
                if match is None or not data.endswith(b"\n"):
                    break
                numbers.add(int(match[1]))
                size += len(data)
    return numbers, size


def response_line(digits: str, line: BatchLine, answer: BatchAnswer) -> bytes:
    """Format the result of a request that got a response. `digits`: the hexadecimal digits of the
    batch's id.
    """
    head = {
        "id": f"batch_req_{digits}_{line.number}",
        "custom_id": line.custom_id,
        "response": {"status_code": answer.status, "request_id": answer.request_id},
    }
    # The response's JSON may have line feeds between its tokens only.
    body = answer.body.replace(b"\n", b" ").replace(b"\r", b" ")
    start = json.dumps(head).encode().removesuffix(b"}}")
    return start + b', "body": ' + body + b'}, "error": null}\n'


def error_line(digits: str, line: BatchLine, code: str, message: str) -> bytes:
    """Format the result of a request that did not run."""
    document = {
        "id": f"batch_req_{digits}_{line.number}",
        "custom_id": line.custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }
    return json.dumps(document).encode() + b"\n"
