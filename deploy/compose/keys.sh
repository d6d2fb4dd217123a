#!/bin/sh
# Make the secrets of compose.yaml, once: a key for clients, one for Prometheus, the retrieval service's token,
# Grafana's password. More keys for clients: one a line in secrets/keys, which the server reads again.
set -eu
cd "$(dirname "$0")"
[ ! -e secrets ] || { echo "secrets/ is there already" >&2; exit 1; }
# The folder is closed to others; the files are open, since containers read them with users of their own.
mkdir -m 700 secrets
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secret > secrets/metrics-key
secret > secrets/cache-token
secret > secrets/grafana-password
{ echo "# for clients"; secret; echo; echo "# for Prometheus"; cat secrets/metrics-key; echo; } > secrets/keys
chmod 444 secrets/*
echo "made secrets/; the first key is $(sed -n 2p secrets/keys)"
