"""Decide which network addresses the server may contact for a client's URL: only public addresses.

An IPv6 address can contain an IPv4 address in several forms. This IPv4 address must also be public.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

UNICAST = IPv6Network("2000::/3")  # the IPv6 addresses that are routed on the Internet
TEREDO = IPv6Network("2001::/32")
NAT64 = IPv6Network("64:ff9b::/96")
# addresses that are not public, although some Python versions report them as public
SPECIAL = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
DOCUMENTATION = IPv6Network("3fff::/20")
# in an ISATAP address, one of these values precedes the IPv4 address
ISATAP = (0x00005EFE, 0x02005EFE)


def is_public(text: str) -> bool:
    """Whether `text` is a public IPv4 or IPv6 address. False if it is not an address."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _v4_is_public(address) if isinstance(address, IPv4Address) else _v6_is_public(address)


def _v4_is_public(address: IPv4Address) -> bool:
    special = address.is_multicast or any(address in network for network in SPECIAL)
    return address.is_global and not special


def _v6_is_public(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if (inner := _embedded(address)) is not None:
        return _v4_is_public(inner)
    special = address in TEREDO or address in DOCUMENTATION
    return address in UNICAST and address.is_global and not special


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address contains, or None."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    last = IPv4Address(int(address) & 0xFFFFFFFF)
    if address in NAT64 or int(address) >> 32 & 0xFFFFFFFF in ISATAP:
        return last
    return None
