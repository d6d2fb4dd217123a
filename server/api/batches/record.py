"""The state of one batch, which is stored on disk: the fields of OpenAI's batch object."""

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelled"
]
FINAL: frozenset[Status] = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class BatchRecord:
    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    status: Status = "validating"
    metadata: dict[str, str] | None = None
    # Lifetime of the output files in seconds. None: the server's default.
    output_lifetime_s: int | None = None

    # Number of lines in the input file, of responses with a status below 400, and of other results.
    total: int = 0
    completed: int = 0
    failed: int = 0

    # Each status that the batch has had -> the Unix time at which the status began.
    times: dict[str, int] = field(default_factory=dict)
    # If the input file is invalid: its faults.
    errors: list[dict[str, Any]] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def final(self) -> bool:
        return self.status in FINAL

    @property
    def digits(self) -> str:
        """The hexadecimal digits of the id."""
        return self.id.removeprefix("batch_")

    def enter(self, status: Status, now: int, **changes: Any) -> Self:
        """Return a copy of the record with a new status, which begins at the Unix time `now`."""
        return replace(self, status=status, times={**self.times, status: now}, **changes)

    def document(self, cancelling_at: int | None = None) -> dict[str, Any]:
        """Return OpenAI's batch object. `cancelling_at`: the Unix time when the client cancelled
        the batch.
        """
        at = {f"{name}_at": self.times.get(name) for name in (*sorted(FINAL), "in_progress")}
        cancelling = cancelling_at is not None and not self.final
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": self.completion_window,
            "status": "cancelling" if cancelling else self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **at,
            "finalizing_at": self.times.get("finalizing"),
            "cancelling_at": cancelling_at if cancelling_at else self.times.get("cancelling"),
            "request_counts": {
                "total": self.total,
                "completed": self.completed,
                "failed": self.failed,
            },
            "metadata": self.metadata,
        }


def result_file_id(batch_id: str, kind: str) -> str:
    """Return the id of a batch's output or error file. The id depends only on the batch, so that a
    batch that ends twice, because the server was killed, has one file of each kind.
    """
    return f"file-{hashlib.sha256(f'{batch_id}:{kind}'.encode()).hexdigest()[:32]}"
