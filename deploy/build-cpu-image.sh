#!/usr/bin/env bash
# Build the CPU image on a machine without a Docker engine: as root, with Debian's packages debootstrap, buildah
# and runc. Its base is Debian with Python, made here. Everything is kept in WORK.
#
#   deploy/build-cpu-image.sh WORK [buildah bud's options, e.g. --volume or --build-arg]
#
# The build sees this machine's certificates and pip configuration, for pip to find its index as it does here;
# they are mounted, so that none of it is in the image.
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

# All that pip was told here, by files and by the environment, as one file; and the paths that it names.
pip config list | sed -nE "s/^(global|:env:)\.([a-z-]+)='(.*)'\$/\2 = \3/p" | tac | sort -u -t= -k1,1 \
    | sed '1i [global]' > "$work/pip.conf"
mounts=(--volume "$work/pip.conf:/etc/pip.conf:ro")
for path in /etc/ssl/certs/ca-certificates.crt $(grep -oE '(file://)?/[^ ]+' "$work/pip.conf" | sed -E 's#^file://##; s#/simple/?$##'); do
    [ ! -e "$path" ] || [[ " ${mounts[*]} " == *" $path:"* ]] || mounts+=(--volume "$path:$path:ro")
done

buildah bud --isolation chroot --layers=false --format docker \
    --build-arg BASE_IMAGE="$base" --build-arg DEVICE=cpu "${mounts[@]}" "$@" -t bindserve:cpu .
buildah images bindserve:cpu
