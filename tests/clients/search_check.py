"""Search pictures by text with LangChain's OpenAIEmbeddings and LanceDB.

    bindserve embed MODEL tests/fixtures/evaluation --out build/pictures.parquet
    python -m tests.clients.search_check build/pictures.parquet

Compares LangChain's embeddings with those of a plain HTTP request, and LanceDB's nearest pictures
with a plain calculation. Needs a running server of the same model, at OPENAI_BASE_URL.
"""

import os
import sys
import tempfile
from pathlib import Path

import lancedb
import numpy as np
import pyarrow.parquet
import requests
from langchain_openai import OpenAIEmbeddings

from tests.clients.mteb_model import HEADERS, URL

WORDS = ("a cat", "a bicycle", "a banana")


def main() -> None:
    model = requests.get(f"{URL}/models", headers=HEADERS, timeout=60).json()["data"][0]["id"]
    embeddings = OpenAIEmbeddings(
        model=model,
        base_url=URL,
        api_key=os.environ.get("OPENAI_API_KEY", "-"),
        check_embedding_ctx_length=False,
    )
    queries = np.array(embeddings.embed_documents(list(WORDS)))
    body = {"input": list(WORDS)}
    plain = requests.post(f"{URL}/embeddings", json=body, headers=HEADERS, timeout=60).json()
    expected = np.array([item["embedding"] for item in plain["data"]])
    print(f"LangChain: largest difference {np.abs(queries - expected).max():.1e}")
    assert np.abs(queries - expected).max() < 1e-6

    rows = pyarrow.parquet.read_table(sys.argv[1])
    files, vectors = rows["file"].to_pylist(), np.array(rows["embedding"].to_pylist())
    with tempfile.TemporaryDirectory() as folder:
        table = lancedb.connect(folder).create_table("media", rows)
        for word, query in zip(WORDS, queries, strict=True):
            search = table.search(query, vector_column_name="embedding")
            nearest = [row["file"] for row in search.limit(3).to_list()]
            order = np.argsort(-(vectors @ query))[:3]
            print(f"LanceDB: {word}: {', '.join(Path(name).stem for name in nearest)}")
            assert nearest == [files[index] for index in order]


if __name__ == "__main__":
    main()
