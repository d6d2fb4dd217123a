"""Sources: find the bytes to which a content part refers.

They can be base64 in the request, an uploaded file of a multipart request, a stored file, or the
file at a URL. This module does not depend on modalities: the caller passes the maximum size.
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
    """A URL that the server will fetch."""

    url: str
    max_bytes: int


Source = Blob | Link


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file of a multipart request, or a stored file."""

    field: str
    filename: str
    content: DiskBlob


class StoredFiles(Protocol):
    """The stored files of one owner (`media.files.OwnedFiles`)."""

    def get(self, file_id: str) -> Upload:
        """Return a stored file. Raises NotFound."""
        ...


class NoFiles:
    # The protocol `StoredFiles` requires the argument.
    def get(self, file_id: str) -> Upload:  # noqa: ARG002
        raise NotFound("this server stores no files", code="file_not_found")


@dataclass(slots=True)
class Sources:
    """The files and URLs that the parts of one request may refer to."""

    uploads: Sequence[Upload] = ()
    files: StoredFiles = field(default_factory=NoFiles)
    urls: bool = False  # whether the operator allows http(s) URLs
    _used: set[str] = field(default_factory=set)

    def read(self, text: str, *, max_bytes: int, param: str, bare: bool = False) -> Source:
        """Return the bytes or the link for a content part's URL or base64 text.

        `bare`: whether text without a URL scheme is base64. Raises BadRequest, TooLarge.
        """
        scheme = text[:16].lower().lstrip()
        if scheme.startswith(UPLOAD):
            blob = self._upload(text[len(UPLOAD) :], param).content
            check_size(blob, max_bytes, param)
            return blob
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
        """Return a stored file. Raises BadRequest, NotFound."""
        if not isinstance(file_id, str):
            raise BadRequest("file_id must be a string", param=param)
        try:
            return self.files.get(file_id)
        except NotFound as error:
            raise NotFound(error.message, param=param, code=error.code) from None

    def unused(self) -> list[Upload]:
        """Return the uploaded files to which no content part refers."""
        return [upload for upload in self.uploads if upload.field not in self._used]

    def _upload(self, name: str, param: str) -> Upload:
        uploads = [upload for upload in self.uploads if upload.field == name]
        if len(uploads) != 1:
            count = "more than one file" if uploads else "no file"
            raise BadRequest(f"{UPLOAD} names {count} of this request", param=param)
        self._used.add(name)
        return uploads[0]


def check_size(blob: Blob, max_bytes: int, param: str) -> None:
    if blob.size > max_bytes:
        raise TooLarge(f"the file is larger than {max_bytes} bytes", param=param)
    if blob.size == 0:
        raise BadRequest("the file is empty", param=param)
