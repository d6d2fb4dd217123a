#!/bin/sh
# Send the task demo_pictures to a running server with lmms-eval, which is not modified.
# Then compare lmms-eval's answers and score with those of `bindserve eval`.
#
#     sh tests/clients/run.sh [URL]        default: http://127.0.0.1:8000
#
# lmms-eval is installed in its own virtual environment, because it pins other packages.
set -eu
url=${1:-http://127.0.0.1:8000}
work=build/clients
data=tests/fixtures/evaluation/questions.jsonl
mkdir -p "$work"
rm -rf "$work/lmms" "$work/own"
if [ ! -x "$work/venv/bin/lmms-eval" ]; then
  python -m venv "$work/venv"
  "$work/venv/bin/pip" install -q -r tests/clients/requirements.txt
  "$work/venv/bin/pip" uninstall -q -y torchvision # it does not load beside PyTorch's CPU build
fi
HF_HUB_OFFLINE=1 HF_DATASETS_CACHE=$work/datasets OPENAI_API_KEY=none \
  "$work/venv/bin/lmms-eval" --model openai \
  --model_args "model_version=demo,base_url=$url/v1,timeout=600,num_concurrent=16" \
  --tasks demo_pictures --include_path tests/clients --batch_size 1 \
  --log_samples --output_path "$work/lmms"
bindserve eval "$url" --data "$data" --tasks all --decoding greedy --out "$work/own" > "$work/own.log"
python -m tests.clients.compare "$data" "$work/own" "$work"/lmms/*/*samples_demo_pictures.jsonl
