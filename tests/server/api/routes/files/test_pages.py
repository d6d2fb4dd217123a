"""The pages of OpenAI's lists, which files and batches share."""

from types import SimpleNamespace
from typing import Any

import pytest

from server.api.routes.files import list_page
from server.errors import NotFound


def test_pages_of_a_list() -> None:
    records = [SimpleNamespace(id=f"file-{number}") for number in range(5)]

    def page(after: str | None, limit: int) -> dict[str, Any]:
        return list_page(records, after, limit, "file", vars)

    first = page(None, 2)
    assert first["data"] == [{"id": "file-0"}, {"id": "file-1"}]
    assert (first["first_id"], first["last_id"], first["has_more"]) == ("file-0", "file-1", True)
    last = page("file-1", 3)
    assert (last["first_id"], last["last_id"], last["has_more"]) == ("file-2", "file-4", False)
    assert page("file-4", 3) == {
        **{"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    }
    with pytest.raises(NotFound, match="no such file"):
        page("file-5", 1)
