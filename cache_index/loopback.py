"""Determine whether only this machine can reach an address."""

import ipaddress


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach a server on `host`. None means all interfaces."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address((host or "").strip("[]")).is_loopback
    except ValueError:  # the host is a name and not an address
        return False
