"""A program that replaces `server.encoding.service` in tests: it reports that it is ready, and
sleeps.
"""

import os
import time

from server.process.control import Parent, serving


def main() -> None:
    parent = Parent.connect()
    with (parent.scratch / "encoding").open("a") as file:
        print(os.getpid(), file=file)
    serving(parent.control)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
