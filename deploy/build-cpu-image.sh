#!/usr/bin/env bash
# Build the CPU image on a machine without a Docker engine.
# The script needs root and Debian's packages debootstrap, buildah and runc.
# The script first builds a base image with Debian and Python. It writes all files to the folder WORK.
#
#   deploy/build-cpu-image.sh WORK [options of buildah bud, e.g. --volume or --build-arg]
#
# The build mounts this machine's certificates and pip configuration, so that pip uses this machine's package index.
# Mounted files do not become part of the image.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mkdir -p "${1:?usage: deploy/build-cpu-image.sh WORK [OPTION...]}" && cd "$1" && pwd); shift
base=localhost/debian-python:bookworm
export CONTAINERS_STORAGE_CONF=$work/storage.conf
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s"\nrunroot = "%s"\n' "$work/store" "$work/run" \
    > "$CONTAINERS_STORAGE_CONF"

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
    rm -rf "$work/rootfs"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$work/rootfs"
    container=$(buildah from scratch)
    buildah add -q "$container" "$work/rootfs" /
    buildah config --cmd python3 "$container"
    buildah commit -q --rm "$container" "$base"
    rm -rf "$work/rootfs"
fi

# Write pip's configuration (files and environment variables) to one file.
# Mount this file, and all paths that it contains, into the build.
pip config list | sed -nE "s/^(global|:env:)\.([a-z-]+)='(.*)'\$/\2 = \3/p" | tac | sort -u -t= -k1,1 \
    | sed '1i [global]' > "$work/pip.conf"
mounts=(--volume "$work/pip.conf:/etc/pip.conf:ro")
for path in /etc/ssl/certs/ca-certificates.crt $(grep -oE '(file://)?/[^ ]+' "$work/pip.conf" | sed -E 's#^file://##; s#/simple/?$##'); do
    [ ! -e "$path" ] || [[ " ${mounts[*]} " == *" $path:"* ]] || mounts+=(--volume "$path:$path:ro")
done

buildah bud --isolation chroot --layers=false --format docker \
    --build-arg BASE_IMAGE="$base" --build-arg DEVICE=cpu "${mounts[@]}" "$@" -t bindserve:cpu .
buildah images bindserve:cpu
