"""Where a notification may be sent: the guard of addresses, names looked up, and the dialling.

The guard looks at the addresses that are then dialled, after the one name resolution, so a name that
answers differently the second time changes nothing. ipaddress.is_global alone is not enough: in some
Python versions it calls addresses global that carry a private IPv4 address within them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from aiohappyeyeballs import start_connection

IpAddress = IPv4Address | IPv6Address
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

FRESH = 10.0  # seconds that a name's addresses are used for
HEAD_START = 0.25  # seconds for one address before the next is tried beside it
RESOLVER_THREADS = 32


class Guard:
    """Decides whether an address may be dialled: the public internet, and the networks in `allowed`."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        """Raises ValueError for what is not a network in CIDR notation."""
        self.allowed = tuple(ip_network(network.strip()) for network in allowed)

    def permits(self, address: IpAddress) -> bool:
        """Addresses that carry an IPv4 address are judged by it; other disguises are refused."""
        if self._is_allowed(address):
            return True
        inner = _inner(address)
        if inner is not None:
            return self.permits(inner)
        return _is_public(address)

    def _is_allowed(self, address: IpAddress) -> bool:
        return any(address in network for network in self.allowed if network.version == address.version)


def _inner(address: IpAddress) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _is_public(address: IpAddress) -> bool:
    if isinstance(address, IPv6Address) and address not in GLOBAL_UNICAST:
        return False
    refused = any(address in network for network in REFUSED if network.version == address.version)
    return address.is_global and not address.is_multicast and not refused


class AddressInfo(NamedTuple):
    """An address as socket.getaddrinfo gives it."""

    family: int
    type: int
    proto: int
    canonname: str
    sockaddr: tuple[Any, ...]


class Resolver:
    """Names to addresses in threads of its own, so that names which hang cannot starve other work."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="resolve")

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """Raises OSError where there is no such name."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, look_up, host, port)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def look_up(host: str, port: int, flags: int = socket.AI_ADDRCONFIG) -> list[AddressInfo]:
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(AddressInfo(*info) for info in infos))


class BlockedHost(PermissionError):
    """None of the host's addresses may be dialled."""


class Dialler:
    """Opens sockets. It looks a name up once in FRESH seconds, however many ask for it at once."""

    def __init__(self, guard: Guard, resolver: Resolver | None = None) -> None:
        self.guard = guard
        self._resolver = resolver
        self._answers: dict[tuple[str, int], tuple[float, asyncio.Task[list[AddressInfo]]]] = {}

    async def dial(self, host: str, port: int, *, guarded: bool) -> socket.socket:
        """A socket connected to the first of the host's addresses that takes us (RFC 8305).

        Raises BlockedHost when it is `guarded` and no address is permitted, OSError when none takes us.
        """
        found = await self._addresses(host, port)
        infos = [info for info in found if not guarded or self.guard.permits(address_of(info))]
        if not infos:
            raise BlockedHost(host)
        return await start_connection(infos, happy_eyeballs_delay=HEAD_START, interleave=1)

    async def check(self, host: str, port: int) -> None:
        """For who dials by the name: raises BlockedHost unless every address of it is permitted."""
        found = await self._addresses(host, port)
        if not all(self.guard.permits(address_of(info)) for info in found):
            raise BlockedHost(host)

    async def _addresses(self, host: str, port: int) -> list[AddressInfo]:
        with suppress(OSError):
            return look_up(host, port, socket.AI_NUMERICHOST)
        now = asyncio.get_running_loop().time()
        end, answer = self._answers.get((host, port), (0.0, None))
        if answer is None or now > end or (answer.done() and answer.exception()):
            answer = asyncio.ensure_future(self._resolve(host, port))
            self._answers = {key: old for key, old in self._answers.items() if old[0] >= now}
            self._answers[host, port] = now + FRESH, answer
        return await asyncio.shield(answer)

    async def _resolve(self, host: str, port: int) -> list[AddressInfo]:
        self._resolver = self._resolver or Resolver()
        return await self._resolver.resolve(host, port)

    async def close(self) -> None:
        for _, answer in self._answers.values():
            answer.cancel()
        await asyncio.gather(*(answer for _, answer in self._answers.values()), return_exceptions=True)
        self._answers.clear()
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None


def address_of(info: AddressInfo) -> IpAddress:
    return ip_address(str(info.sockaddr[0]).split("%")[0])
