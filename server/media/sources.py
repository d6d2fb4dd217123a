"""Sources: where the bytes of an attachment come from, and how a content part refers to them.

Base64 in the request itself, a part of a multipart request, a stored file, or a URL. Knows nothing
of modalities; every size is checked against the bound that it is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.errors import BadRequest, NotFound, TooLarge
from server.media.base64 import read_base64, read_data_url
from server.media.blob import Blob, DiskBlob, MemoryBlob

UPLOAD = "attachment://"


@dataclass(frozen=True, slots=True)
class Link:
    """Bytes that are yet to be fetched."""

    url: str
    max_bytes: int


Source = Blob | Link


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a multipart request."""

    field: str
    filename: str
    content: DiskBlob


class StoredFiles(Protocol):
    """What we need of one owner's files."""

    def get(self, file_id: str) -> Upload:
        """NotFound"""
        ...


class NoFiles:
    def get(self, file_id: str) -> Upload:  # noqa: ARG002
        raise NotFound("this server stores no files", code="file_not_found")


@dataclass(slots=True)
class Sources:
    """What the parts of one request may refer to."""

    uploads: Sequence[Upload] = ()
    files: StoredFiles = field(default_factory=NoFiles)
    urls: bool = False  # the operator allows http(s) URLs
    _used: set[str] = field(default_factory=set)

    def read(self, text: str, *, max_bytes: int, param: str, bare: bool = False) -> Source:
        """What a part says in place of bytes. `bare`: base64 without `data:` is meant."""
        scheme = text[:16].lower().lstrip()
        if scheme.startswith(UPLOAD):
            return bounded(self._upload(text[len(UPLOAD) :], param).content, max_bytes, param)
        if scheme.startswith(("http:", "https:")):
            if not self.urls:
                raise BadRequest(
                    "fetching URLs is not enabled on this server; send the file as a data: URL",
                    param=param,
                    code="url_not_enabled",
                )
            return Link(text, max_bytes)
        if bare and not scheme.startswith("data:"):
            return MemoryBlob(read_base64(text, max_bytes=max_bytes, param=param))
        return MemoryBlob(read_data_url(text, max_bytes=max_bytes, param=param))

    def stored(self, file_id: object, *, param: str) -> Upload:
        if not isinstance(file_id, str):
            raise BadRequest("file_id must be a string", param=param)
        try:
            return self.files.get(file_id)
        except NotFound as error:
            raise NotFound(error.message, param=param, code=error.code) from None

    def unused(self) -> list[Upload]:
        """Uploads that no part referred to."""
        return [upload for upload in self.uploads if upload.field not in self._used]

    def _upload(self, name: str, param: str) -> Upload:
        found = [upload for upload in self.uploads if upload.field == name]
        if len(found) != 1:
            raise BadRequest(
                f"{UPLOAD} names {'more than one file' if found else 'no file'} of this request",
                param=param,
            )
        self._used.add(name)
        return found[0]


def bounded(content: Blob, max_bytes: int, param: str) -> Blob:
    if content.size > max_bytes:
        raise TooLarge(f"the file is larger than {max_bytes} bytes", param=param)
    if content.size == 0:
        raise BadRequest("the file is empty", param=param)
    return content
