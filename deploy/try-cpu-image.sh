#!/usr/bin/env bash
# Run the image that build-cpu-image.sh wrote to WORK, with runc and the Dockerfile's settings.
# The container runs without root rights, and can write only to the folder /cache.
# The script waits until the server is healthy and ready, sends one chat request, and stops the server.
#
#   deploy/try-cpu-image.sh WORK [ARGUMENT...]        the ARGUMENTs replace the image's CMD
set -euo pipefail
work=$(cd "${1:?usage: deploy/try-cpu-image.sh WORK [ARGUMENT...]}" && pwd); shift
export CONTAINERS_STORAGE_CONF=$work/storage.conf
port=${PORT:-8000}
name=bindserve-$$

container=$(buildah from --pull-never bindserve:cpu)
root=$(buildah mount "$container")
bundle=$(mktemp -d)
clean_up() {
    runc kill "$name" KILL 2>/dev/null || true
    runc delete --force "$name" 2>/dev/null || true
    buildah rm "$container" >/dev/null
    rm -rf "$bundle"
}
trap clean_up EXIT
install -d -o 10001 -g 10001 "$bundle/cache"
buildah inspect --type image bindserve:cpu > "$bundle/image.json"
runc spec --bundle "$bundle"
python3 - "$bundle" "$root" "$port" "$@" <<'PYTHON'
import json, pathlib, sys
bundle, root, port, *arguments = sys.argv[1:]
bundle = pathlib.Path(bundle)
image = json.loads((bundle / "image.json").read_text())["Docker"]["config"]
spec = json.loads((bundle / "config.json").read_text())
uid, gid = map(int, image["User"].split(":"))
spec["root"] = {"path": root, "readonly": True}
spec["process"] |= {
    "terminal": False,
    "user": {"uid": uid, "gid": gid},
    "args": image["Entrypoint"] + (arguments or image["Cmd"]),
    "env": [*image["Env"], f"BINDSERVE_PORT={port}"],
    "cwd": image["WorkingDir"],
    "noNewPrivileges": True,
    "capabilities": {},
}
spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
for mount in spec["mounts"]:
    if mount["destination"] == "/dev/shm":  # like docker run --shm-size 1g
        mount["options"] = [o for o in mount["options"] if not o.startswith("size=")] + ["size=1g"]
for volume in image["Volumes"]:
    source = str(bundle / volume.strip("/"))
    spec["mounts"].append({"destination": volume, "type": "bind", "source": source, "options": ["bind", "rw"]})
(bundle / "config.json").write_text(json.dumps(spec))
(bundle / "health.json").write_text(json.dumps(image["Healthcheck"]["Test"][1:]))
PYTHON

runc run --bundle "$bundle" "$name" > "$work/container.log" 2>&1 &
python3 - "$bundle" "$name" "$port" <<'PYTHON' || { tail -20 "$work/container.log"; exit 1; }
import json, pathlib, subprocess, sys, time, urllib.request
bundle, name, port = sys.argv[1:]
check = json.loads((pathlib.Path(bundle) / "health.json").read_text())
def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False
started = time.monotonic()
while subprocess.run(["runc", "exec", name, *check], capture_output=True).returncode:
    if time.monotonic() - started > 600:
        sys.exit("the container did not become healthy")
    time.sleep(2)
print(f"healthy after {time.monotonic() - started:.0f} s, by the image's health check")
while not answers(f"http://127.0.0.1:{port}/ready"):
    if time.monotonic() - started > 600:
        sys.exit("the container did not become ready")
    time.sleep(2)
print(f"ready after {time.monotonic() - started:.0f} s")
inside = lambda *command: subprocess.run(["runc", "exec", name, *command], capture_output=True, text=True)
print("runs as", inside("id").stdout.strip())
for folder in ("/", "/opt/bindserve", "/tmp", "/cache"):
    done = inside("python3", "-c", f"open('{folder}/probe', 'w')")
    print(f"writing to {folder}:", (done.stderr.strip().splitlines() or ["works"])[-1])
question = {"model": "demo", "max_tokens": 16, "messages": [{"role": "user", "content": "What do you see?"}]}
url = f"http://127.0.0.1:{port}/v1/chat/completions"
request = urllib.request.Request(url, json.dumps(question).encode(), {"Content-Type": "application/json"})
with urllib.request.urlopen(request, timeout=120) as answer:
    print(answer.status, answer.read().decode())
PYTHON
runc kill "$name" TERM
wait %1 && echo "stopped: exit status 0" || echo "stopped: exit status $?"
