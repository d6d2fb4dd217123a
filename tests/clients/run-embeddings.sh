#!/bin/sh
# Run mteb, LangChain and LanceDB against a running server of encoders, and compare with plain calculations.
#
#     sh tests/clients/run-embeddings.sh MODEL [URL]        default: http://127.0.0.1:8000
#
# The clients are installed in their own virtual environment. It also has bindserve's packages, because a .pth file names
# their folder.
set -eu
model=$1
export OPENAI_BASE_URL="${2:-http://127.0.0.1:8000}/v1"
work=build/clients
mkdir -p "$work"
if [ ! -d "$work/embeddings/lib" ]; then
  python -m venv "$work/embeddings"
  packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "$packages" > "$("$work/embeddings/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bindserve.pth"
  "$work/embeddings/bin/pip" install -q --no-deps --require-hashes -r tests/clients/embedding-requirements.txt
fi
bindserve embed "$model" tests/fixtures/evaluation --out "$work/pictures.parquet"
export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE="$work/datasets"
"$work/embeddings/bin/python" -m tests.clients.search_check "$work/pictures.parquet"
"$work/embeddings/bin/python" -m tests.clients.mteb_check
