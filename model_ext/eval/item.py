"""One question of a data set: the request's content, and the correct answers ("truths")."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

MODALITIES = ("image", "audio", "video", "point", "depth", "thermal", "imu")
Modality = Literal["image", "audio", "video", "point", "depth", "thermal", "imu"]
Media = str | list[str] | None  # absolute paths or data: URIs of media


class WithMedia(BaseModel):
    """The media of a question or of an earlier turn."""

    image: Media = None
    audio: Media = None
    video: Media = None
    point: Media = None
    depth: Media = None
    thermal: Media = None
    imu: Media = None

    def media(self) -> Iterator[tuple[str, str]]:
        """Yield (modality, absolute path or data: URI) of every attached file."""
        for modality in MODALITIES:
            value: Media = getattr(self, modality)
            for source in [value] if isinstance(value, str) else value or []:
                yield modality, source


class EarlierTurn(WithMedia):
    """A turn of the dialogue before the question. `answer`: the answer that the model gave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    answer: str


class Item(WithMedia):
    """A row of a JSONL data file. Unknown keys are kept, and are written with the results.

    question: the complete prompt. earlier: the turns before the question. input: the text of the
    prompt's Input slot. pair: the picture that MME's two questions share. truth_index: the index of
    the right candidate in `candidates` (Visdial). weights: modality -> weight of the modality's
    files in the request's mixed embedding. Default: 1.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    id: str = Field(min_length=1, max_length=1024)
    task: str = Field(pattern="^[^,]{1,256}$")  # no comma: `--tasks` splits at commas
    question: str
    answers: list[str]
    earlier: list[EarlierTurn] = Field(default=[], max_length=64)
    input: str | None = None
    choices: list[str] | None = None
    candidates: list[str] | None = None
    truth_index: int | None = Field(default=None, ge=0)
    pair: str | None = None
    category: str | None = None
    weights: dict[str, float] | None = None
    metric: str | None = None
    strict: str | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=65536)
    _path: Path | None = PrivateAttr(None)
    _row: int | str | None = PrivateAttr(None)

    @property
    def row(self) -> int | str:
        """The row of the question in its file, or the id if the question is from no file."""
        return self.id if self._row is None else self._row

    @property
    def place(self) -> str:
        """The file and the row of the question, for error messages; "" if it is from no file."""
        return "" if self._path is None else f"{self._path}, row {self.row}"

    def at(self, path: Path, row: int | str) -> Self:
        """Set the file and the row of the question. Returns the item itself."""
        self._path, self._row = path, row
        return self
