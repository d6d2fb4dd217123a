"""A program that replaces `server.api` in tests and answers every request with 200. A file named
`behaviour` can make it misbehave.
"""

import json
import os
import select
import socket
import sys
import time

from server.process.control import Address, Parent, serving


def main() -> None:
    parent = Parent.connect()
    folder = parent.scratch
    with (folder / "serving").open("a") as file:
        print(os.getpid(), file=file)
    behaviour = json.loads((folder / "behaviour").read_text())
    if "serving_exits" in behaviour:
        sys.exit(behaviour["serving_exits"])
    if parent.restarts and "restart_exits" in behaviour:
        sys.exit(behaviour["restart_exits"])
    listener = parent.socket or socket.create_server(("127.0.0.1", 0))
    if parent.socket is None:
        parent.listening(listener, Address("http://any", tls=False, drain_s=1))
        (folder / "port").write_text(str(listener.getsockname()[1]))
    while behaviour.get("slow_restart") and parent.restarts and not (folder / "go").exists():
        time.sleep(0.01)
    sockets = [parent.control, listener]
    (folder / "inherited").write_text(str([each for each in sockets if each.get_inheritable()]))
    serving(parent.control)
    while True:
        # `accept` does not block if the parent opened `listener`.
        select.select([listener], [], [])
        try:
            client, _ = listener.accept()
        except BlockingIOError:  # The parent has already accepted the connection.
            continue
        with client:
            client.recv(1 << 16)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")


if __name__ == "__main__":
    main()
