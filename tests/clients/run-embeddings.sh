#!/bin/sh
# Run mteb, LangChain, LanceDB and a LiteLLM proxy against a running server of encoders, and compare with plain calculations.
#
#     bindserve serve MODEL --served-model-name imagebind &
#     sh tests/clients/run-embeddings.sh MODEL [URL]        default: http://127.0.0.1:8000
#
# The clients are installed in their own virtual environments.
# A .pth file in an environment names bindserve's folder, so that bindserve can be imported there.
set -eu
model=$1
export OPENAI_BASE_URL="${2:-http://127.0.0.1:8000}/v1"
work=build/clients
mkdir -p "$work"
folder='import sysconfig; print(sysconfig.get_path("purelib"))'
for name in embedding litellm; do
  if [ ! -d "$work/$name" ]; then
    python -m venv "$work/$name"
    python -c "$folder" > "$("$work/$name/bin/python" -c "$folder")/bindserve.pth"
    "$work/$name/bin/pip" install -q --no-deps --require-hashes -r "tests/clients/$name-requirements.txt"
  fi
done
bindserve embed "$model" tests/fixtures/evaluation --out "$work/pictures.parquet"
export HF_HUB_OFFLINE=1 HF_DATASETS_CACHE="$work/datasets"
"$work/embedding/bin/python" -m tests.clients.search_check "$work/pictures.parquet"
"$work/embedding/bin/python" -m tests.clients.mteb_check
python -m tests.clients.litellm_check "$work/litellm/bin/litellm" "$OPENAI_BASE_URL"
