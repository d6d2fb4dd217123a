#!/bin/sh
# Create the secrets of compose.yaml in the folder `secrets`: an API key for clients, a key with which Prometheus reads
# /metrics, the token of the retrieval service, and Grafana's password.
# To add API keys, write them to secrets/keys, one per line. The running server reads this file again.
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
