"""Read multipart/form-data while it arrives: write files to disk, and keep other fields in memory.

The library python-multipart parses the body, and this module enforces the limits. It does not
interpret the fields. Blocking work (parsing, hashing, writing) runs in threads, one batch of chunks
at a time.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from server.context import client
from server.errors import BadRequest, TooLarge, Unavailable, UnsupportedMediaType
from server.fairness.places import Places
from server.media.spool import Spool

BATCH_BYTES = 1 << 19
WAIT_S = 10  # maximum seconds in which an upload waits for the end of others
# Maximum number and total bytes of the headers of one part of a form.
MAX_HEADERS, MAX_HEADER_BYTES = 8, 4096
MAX_FILENAME = 255
NOT_A_FORM = "the request is not well-formed multipart/form-data"
QUOTED = re.compile(rb'"(?:\\.|[^"\\])*"')
# RFC 5987: filename*=UTF-8'LANGUAGE'PERCENT-ENCODED
EXTENDED_FILENAME = re.compile(rb";\s*filename\*\s*=\s*([^;]*)", re.IGNORECASE)
EXTENDED_VALUE = re.compile(rb"utf-8'[^']*'([!#$&+.^_`|~\w-]|%[0-9a-f]{2})*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class FormLimits:
    parts: int  # Maximum number of fields and files.
    field_bytes: int  # Maximum bytes of all fields together, without files.
    file_bytes: int  # Maximum bytes of one file.


@dataclass(frozen=True, slots=True)
class FormFile:
    field: str
    filename: str
    spool: Spool


@dataclass(slots=True)
class Form:
    fields: dict[str, bytes] = field(default_factory=dict)
    files: list[FormFile] = field(default_factory=list)

    def only_file(self) -> FormFile:
        """Return the file of a form that has one file, in the field `file`. Raises BadRequest."""
        if len(self.files) != 1 or self.files[0].field != "file":
            raise BadRequest("expected one file, in the field `file`", param="file")
        (file,) = self.files
        if not file.spool.size:
            raise BadRequest("the file is empty", param="file")
        return file


@asynccontextmanager
async def read_form(
    request: Request, folder: Path, limits: FormLimits, *, inline: frozenset[str] = frozenset()
) -> AsyncIterator[Form]:
    """Read a form.

    The form's files are in `folder` until the context ends, or until `Spool.blob` or `Spool.save`
    takes them. `inline`: names of fields that stay in memory even if the client sends them as
    files.

    Raises BadRequest, TooLarge, UnsupportedMediaType, Unavailable.
    """
    with ExitStack() as spools:
        reader = FormReader(boundary_of(request), folder, limits, inline, spools)
        batch: list[bytes] = []
        waiting = 0
        async for chunk in request.stream():
            batch.append(chunk)
            waiting += len(chunk)
            if waiting >= BATCH_BYTES:
                await uninterrupted(reader, b"".join(batch))
                batch, waiting = [], 0
        await uninterrupted(reader, b"".join(batch))
        yield reader.form()


async def uninterrupted(reader: "FormReader", data: bytes) -> None:
    """Pass data to the reader in a thread. On cancellation, wait until the thread no longer uses
    the spools.
    """
    work = asyncio.ensure_future(asyncio.to_thread(reader.feed, data))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def boundary_of(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise UnsupportedMediaType("Content-Type must be multipart/form-data")
    if not options.get(b"boundary"):
        raise BadRequest("Content-Type: multipart/form-data without a boundary")
    return options[b"boundary"]


class FormReader:
    """The callbacks that python-multipart calls. They store the fields and files of the form."""

    def __init__(
        self,
        boundary: bytes,
        folder: Path,
        limits: FormLimits,
        inline: frozenset[str],
        spools: ExitStack,
    ) -> None:
        self._folder, self._limits, self._inline, self._spools = folder, limits, inline, spools
        self._form = Form()
        self._parts = self._inline_bytes = 0
        self._ended = False
        self._name = self._value = b""  # name and value of the header that is being parsed
        self._headers: dict[bytes, bytes] = {}
        self._sink: bytearray | Spool = bytearray()
        self._field = ""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._open,
                    "on_part_data": self._data,
                    "on_part_end": self._close,
                    "on_end": self._end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError:
            raise BadRequest(NOT_A_FORM) from None

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError:
            raise BadRequest(NOT_A_FORM) from None

    def form(self) -> Form:
        if not self._ended:
            raise BadRequest(f"{NOT_A_FORM}: the body ends before the last boundary")
        return self._form

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.parts:
            raise BadRequest(f"the form has more than {self._limits.parts} parts")
        self._headers = {}
        self._name = self._value = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _open(self) -> None:
        """After a part's headers, open its destination: a spool on disk for a file,
        else a buffer.
        """
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise BadRequest("a part of the form has no name")
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if encoding not in (b"binary", b"7bit", b"8bit"):
            raise BadRequest("Content-Transfer-Encoding is not supported: send the bytes")
        self._field = text(name)
        filename = options.get(b"filename", extended_filename(disposition))
        if filename is None or self._field in self._inline:
            if self._field in self._form.fields and not self._is_list:
                raise BadRequest("the form contains a field twice", param=self._field)
            self._sink = bytearray()
            return
        spool = Spool(self._folder, self._limits.file_bytes)
        self._sink = self._spools.enter_context(spool)
        self._form.files.append(FormFile(self._field, text(filename)[-MAX_FILENAME:], spool))

    def _data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if isinstance(self._sink, Spool):
            try:
                return self._sink.write(piece)
            except TooLarge as error:
                raise TooLarge(error.message, param=self._field) from None
        self._inline_bytes += len(piece)
        if self._inline_bytes > self._limits.field_bytes:
            max_bytes = self._limits.field_bytes
            raise TooLarge(
                f"the form's fields are larger than {max_bytes} bytes", param=self._field
            )
        self._sink += piece

    def _close(self) -> None:
        if isinstance(self._sink, Spool):
            return
        value = bytes(self._sink)
        if self._is_list and self._field in self._form.fields:
            value = self._form.fields[self._field] + b"\n" + value
        self._form.fields[self._field] = value

    @property
    def _is_list(self) -> bool:
        """Whether the field may occur several times. Its values are then joined by line breaks."""
        return self._field.endswith("[]")

    def _end(self) -> None:
        self._ended = True


def extended_filename(disposition: bytes) -> bytes | None:
    """The file name in a header's parameter `filename*=`, which python-multipart ignores.

    Returns None if the header has no such parameter. Raises BadRequest: when the parameter does not
    have RFC 5987's form for UTF-8.
    """
    parameter = EXTENDED_FILENAME.search(QUOTED.sub(b'""', disposition))
    if parameter is None:
        return None
    value = parameter[1].strip()
    if EXTENDED_VALUE.fullmatch(value) is None:
        raise BadRequest("filename* of a part must be UTF-8'' and a percent-encoded name")
    return unquote_to_bytes(value.split(b"'", 2)[2])


def text(value: bytes) -> str:
    """Decode a name that the client sent, and remove characters that could end a line."""
    decoded = value.decode("utf-8", "replace")
    return "".join(character for character in decoded if character.isprintable())


class Uploads:
    def __init__(self, folder: Path, limits: FormLimits, concurrent: int) -> None:
        """`concurrent`: the maximum number of concurrent uploads, which bounds the disk space."""
        self._folder = folder
        self._limits = limits
        self.running = Places(concurrent)

    @asynccontextmanager
    async def receive(
        self, request: Request, *, inline: frozenset[str] = frozenset()
    ) -> AsyncIterator[Form]:
        """Read a form, after a wait if too many uploads are running. Raises Unavailable after a
        long wait, and the errors of `read_form`.
        """
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self.running.place(client(), WAIT_S))
            except TimeoutError:
                raise Unavailable(
                    "too many uploads at the moment", code="too_many_uploads"
                ) from None
            async with read_form(request, self._folder, self._limits, inline=inline) as form:
                yield form
