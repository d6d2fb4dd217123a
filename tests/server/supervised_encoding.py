"""A program that replaces `server.encoding.service` in tests: it reports that it is ready, and
sleeps. A file named `behaviour` can make it misbehave.
"""

import json
import os
import signal
import time

from server.process.control import Parent, alive, serving


def main() -> None:
    parent = Parent.connect()
    with (parent.scratch / "encoding").open("a") as file:
        print(os.getpid(), file=file)
    serving(parent.control)
    behaviour = json.loads((parent.scratch / "behaviour").read_text())
    stalled_s = behaviour.get("encoding_stalled_s", 0) if not parent.restarts else 0
    alive(parent.control, stalled_s)
    if behaviour.get("encoding_stops") and not parent.restarts:
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:
        time.sleep(0.02)
        alive(parent.control, stalled_s)


if __name__ == "__main__":
    main()
