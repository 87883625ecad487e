"""Where a notification may be sent: the guard against server-side request forgery.

It looks at the address that is really dialled, after name resolution, so a name that answers
differently the second time changes nothing. ipaddress.is_global alone is not enough: it calls
IPv4 addresses that are wrapped in NAT64, 6to4 or IPv4-compatible IPv6 addresses global.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Wrap an IPv4 address in their last 32 bits: NAT64 (RFC 6052), IPv4-compatible (RFC 4291, 2.5.5.1).
EMBEDDING = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))

REFUSED = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; also where some clouds keep their metadata service
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.0/24",
        "198.18.0.0/15",
        "fd00:ec2::/32",  # AWS metadata over IPv6
        "fe80::/10",
        "fec0::/10",
    )
)


class BlockedAddress(PermissionError):
    """The address that was about to be dialled is not allowed."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"blocked address {address}")
        self.address = address


class Guard:
    """Decides whether an address may be dialled: the public internet, and the networks in `allowed`."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises ValueError for what is not a network in CIDR notation."""
        self.allowed = tuple(ip_network(network.strip()) for network in allowed)

    def permits(self, address: Address) -> bool:
        candidates = list(_unwrapped(address))
        if any(c in network for c in candidates for network in self.allowed if c.version == network.version):
            return True
        return all(_is_public(c) for c in candidates)

    def socket_factory(self, address_info: tuple) -> socket.socket:  # type: ignore[type-arg]
        """For aiohttp's TCPConnector: makes the socket for an address, or raises BlockedAddress."""
        family, kind, protocol, _, sockaddr = address_info
        text = str(sockaddr[0])
        if not self.permits(ip_address(text.split("%")[0])):
            raise BlockedAddress(text)
        return socket.socket(family=family, type=kind, proto=protocol)


def _unwrapped(address: Address) -> Iterable[Address]:
    """The address itself and, when it carries an IPv4 address, that one too."""
    yield address
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if any(address in network for network in EMBEDDING):
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return True  # judged by the IPv4 address that it carries
    refused = any(address in network for network in REFUSED if network.version == address.version)
    return address.is_global and not address.is_multicast and not refused
