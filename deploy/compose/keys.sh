#!/bin/sh
# Create the secrets of compose.yaml: an API key for clients, the key of /metrics for Prometheus, the token of the
# retrieval service, and Grafana's password. Add more API keys to secrets/keys, one per line; the server reads the file
# again.
set -eu
cd "$(dirname "$0")"
[ ! -e secrets ] || { echo "secrets/ already exists; delete it first to make new secrets" >&2; exit 1; }
# Only the folder's owner can open the folder `secrets`.
# Inside the folder, every user may read the files, because containers run as other users.
mkdir -m 700 secrets
secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
secret > secrets/metrics-key
secret > secrets/cache-token
secret > secrets/grafana-password
{ echo "# for clients"; secret; echo; } > secrets/keys
chmod 444 secrets/*
echo "made secrets/; the API key for clients is $(sed -n 2p secrets/keys)"
