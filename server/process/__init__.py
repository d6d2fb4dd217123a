"""The server's processes: start, restart, stop."""
