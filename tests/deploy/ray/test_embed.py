"""Bulk embedding with Ray Data: the data that workers send and receive.
tests/deploy/ray/embed_check.py compares two workers with `bindserve embed`.
"""

from pathlib import Path

import numpy as np

from cache_index.captions import Caption
from deploy.ray.embed import pack_item, pack_result, unpack_item, unpack_result
from server.cli.bulk.place import BulkItem, Place


def test_a_file_is_sent_as_json() -> None:
    item = BulkItem(Place(Path("/a/\udcff.tar"), "b.jpg", 512, 7), Caption("a cat", "id"))
    assert unpack_item(pack_item(item)) == item


def test_a_result_is_returned_as_json_and_bytes() -> None:
    vectors = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)
    captions = [Caption(None, "a.wav", {"start": float(k), "modality": "audio"}) for k in range(2)]
    rows = unpack_result(*pack_result(list(zip(vectors, captions, strict=True))))
    assert not isinstance(rows, str)
    np.testing.assert_array_equal([vector for vector, _ in rows], vectors)
    assert [caption for _, caption in rows] == captions
    assert unpack_result(*pack_result("damaged")) == "damaged"
