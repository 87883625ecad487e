"""Where a notification may be sent, and how far one got: address guard, resolver and connector.

The guard looks at the address that is really dialled, after the one name resolution, so a name that
answers differently the second time changes nothing. ipaddress.is_global alone is not enough: in some
Python versions it calls addresses global that carry a private IPv4 address within them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from aiohttp.connector import Connection

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the way to IPv4 on an IPv6-only network
GLOBAL_UNICAST = IPv6Network("2000::/3")

REFUSED = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, and the metadata service of Alibaba's cloud
        "169.254.0.0/16",  # link-local, and the metadata service of most clouds
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.0/24",  # and Oracle's metadata service
        "192.88.99.0/24",
        "198.18.0.0/15",
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)

IDLE_HOSTS = 100
KEEP_ALIVE = 4.0  # shorter than what common servers keep, so that a request rarely meets a closing one
RESOLVER_THREADS = 32


class BlockedAddress(PermissionError):
    """The address that was about to be dialled is not allowed."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"blocked address {address}")
        self.address = address


class Progress:
    """How far one request got. `connected` is set just before the request is written."""

    __slots__ = ("blocked", "connected", "dialled")

    def __init__(self) -> None:
        self.blocked = ""
        self.dialled = False
        self.connected = False


PROGRESS: ContextVar[Progress] = ContextVar("PROGRESS")


class Guard:
    """Decides whether an address may be dialled: the public internet, and the networks in `allowed`."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises ValueError for what is not a network in CIDR notation."""
        self.allowed = tuple(ip_network(network.strip()) for network in allowed)

    def permits(self, address: Address) -> bool:
        """Addresses that carry an IPv4 address are judged by it; other disguises are refused."""
        if self._is_allowed(address):
            return True
        inner = _inner(address)
        if inner is not None:
            return self.permits(inner)
        return _is_public(address)

    def _is_allowed(self, address: Address) -> bool:
        return any(address in network for network in self.allowed if network.version == address.version)

    def socket_factory(self, address_info: tuple) -> socket.socket:  # type: ignore[type-arg]
        """For aiohttp's TCPConnector: makes the socket for an address, or raises BlockedAddress."""
        family, kind, protocol, _, sockaddr = address_info
        text = str(sockaddr[0])
        progress = PROGRESS.get()
        if not self.permits(ip_address(text.split("%")[0])):
            progress.blocked = text
            raise BlockedAddress(text)
        progress.dialled = True
        return socket.socket(family=family, type=kind, proto=protocol)


def _inner(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    refused = any(address in network for network in REFUSED if network.version == address.version)
    return address.is_global and not address.is_multicast and not refused


class Connector(aiohttp.TCPConnector):
    """Tells the request's Progress that its connection stands; aiohttp's own tracing costs 15 % of the rate.

    Beyond IDLE_HOSTS hosts it keeps no further idle connection, or ten thousand different hosts in a
    row would use up the process's file descriptors.
    """

    async def connect(self, req: aiohttp.ClientRequest, *args: Any, **kwargs: Any) -> Connection:
        connection = await super().connect(req, *args, **kwargs)
        PROGRESS.get().connected = True
        if len(self._conns) > IDLE_HOSTS and connection.protocol is not None:
            connection.protocol.force_close()
        return connection


class Resolver(AbstractResolver):
    """Names to addresses in threads of its own, so that names which hang cannot starve other work."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._pool, _getaddrinfo, host, port, family)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, protocol, address in found
        ]

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _getaddrinfo(host: str, port: int, family: int) -> list[tuple[int, int, str]]:
    """(family, protocol, address with its IPv6 zone), each once."""
    infos = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    found = []
    for kind, _, protocol, _, sockaddr in infos:
        address, _ = socket.getnameinfo(sockaddr, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        found.append((int(kind), protocol, address))
    return list(dict.fromkeys(found))
