"""Through which proxy a request goes, and how: CONNECT for https, the absolute form for plain http.

From RFC 9110, 9.3.6 (any 2xx opens the tunnel, whatever length it states, and what follows its head is the
other end's) and 11.7 (Proxy-Authorization). NO_PROXY is read as Go's net/http/httpproxy reads it: names,
their subdomains, networks, ports; loopback never goes through a proxy that the environment names.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote, urlsplit

import httptools

from ...exceptions import Reason, TransientError
from ...text import cut, one_line

DIRECT = "direct"
HOST = re.compile(r"[A-Za-z0-9._:-]+")
REPLY_LIMIT = 16 * 1024
WORDS_LIMIT = 200
LOGIN_ADVICE = "set its user name and password (PROXY, or HTTPS_PROXY); what waits goes out by itself"
POLICY_ADVICE = (
    "have the proxy allow it, or name another way (PROXY, NO_PROXY); what waits goes out by itself"
)
PROXY_ADVICE = "look at the proxy that this host is told to use (PROXY, HTTPS_PROXY)"


class Proxy(NamedTuple):
    """login: the header line that it wants, "" for none."""

    host: str
    port: int
    login: str = ""

    def __str__(self) -> str:
        return f"the proxy {authority(self.host, self.port)}"


class Rule(NamedTuple):
    """A part of NO_PROXY. name: "" for every host; port: None for every one."""

    name: str
    network: IPv4Network | IPv6Network | None
    port: int | None

    def spares(self, host: str, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if self.network is not None:
            with suppress(ValueError):
                return ip_address(host) in self.network
            return False
        return not self.name or host == self.name or host.endswith(f".{self.name}")


class Proxies:
    """Whether a request goes through a proxy, and which.

    given  one proxy's URL for all requests; or, as urllib.request.getproxies() has them, those of `http` and
           `https` URLs, and in `no` the hosts that are reached without
    """

    def __init__(self, given: str | Mapping[str, str]) -> None:
        """Raises ValueError for what is no proxy's URL."""
        self.one = proxy_at(given) if isinstance(given, str) else None
        by_scheme = {} if isinstance(given, str) else given
        self.by_scheme = {
            name: proxy_at(by_scheme[name]) for name in ("http", "https") if by_scheme.get(name)
        }
        self.rules = [rule(part) for part in by_scheme.get("no", "").split(",") if part.strip()]
        self.of = lru_cache(maxsize=1024)(self._of)

    @classmethod
    def made_of(cls, given: str | Mapping[str, str] | None) -> Proxies | None:
        """None where all goes out directly."""
        return None if not given or given == DIRECT else cls(given)

    def _of(self, host: str, port: int, tls: bool) -> Proxy | None:
        if self.one is not None:
            return self.one
        host = host.lower()
        if is_loopback(host) or any(rule.spares(host, port) for rule in self.rules):
            return None
        return self.by_scheme.get("https" if tls else "http")


def proxy_at(url: str) -> Proxy:
    """Raises ValueError for what is no http URL of a proxy."""
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    if parts.scheme.lower() != "http" or not HOST.fullmatch(host) or parts.path.strip("/") or parts.query:
        raise ValueError("no URL of a proxy")
    login = ""
    if parts.username is not None:
        plain = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = f"Proxy-Authorization: Basic {base64.b64encode(plain.encode()).decode()}\r\n"
    if parts.port == 0:
        raise ValueError("no such port")
    return Proxy(host, parts.port or 80, login)


def is_proxy(value: Any) -> bool:
    """Whether an option PROXY can have this value."""
    texts = value.values() if isinstance(value, Mapping) else [value]
    names = value if isinstance(value, Mapping) else ()
    if not (all(isinstance(text, str) for text in texts) and {"http", "https", "no"}.issuperset(names)):
        return False
    try:
        Proxies.made_of(value)
    except ValueError:  # whose words can have the password in them
        return False
    return True


def rule(text: str) -> Rule:
    """`*`, `example.com`, `.example.com`, `*.example.com`, `10.0.0.0/8`, `10.1.2.3:8080`, `[::1]:8080`."""
    text = text.strip().lower()
    with suppress(ValueError):
        return Rule("", ip_network(text.strip("[]"), strict=False), None)
    with_port = re.fullmatch(r"(.+):(\d{1,5})", text)
    name, port = (with_port[1], int(with_port[2])) if with_port else (text, None)
    with suppress(ValueError):
        return Rule("", ip_network(name.strip("[]"), strict=False), port)
    return Rule(name.removeprefix("*").strip("."), None, port)


def is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost" or host.endswith(".localhost")


def authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int, agent: str) -> None:
    """Have the proxy connect its end of the socket to the host.

    Raises TransientError, or OSError where the connection breaks; nothing has reached the host then.
    """
    loop, there = asyncio.get_running_loop(), authority(host, port)
    request = f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n{agent}{proxy.login}\r\n"
    await loop.sock_sendall(sock, request.encode())
    reply, received = ConnectReply(), 0
    while not reply.status:
        data = await loop.sock_recv(sock, 4096)
        received += len(data)
        if not data:
            raise _broken(f"{proxy} closed the connection")
        reply.feed(data)
        if reply.broken or received > REPLY_LIMIT:
            raise _broken(f"what answers as {proxy} speaks no HTTP")
    if not 200 <= reply.status < 300:
        refused(proxy, reply.status, reply.words, host)


def _broken(text: str) -> TransientError:
    return TransientError(text, reason=Reason.NETWORK, advice=PROXY_ADVICE)


class ConnectReply:
    """The head of the answer to CONNECT. status: 0 until it is there."""

    def __init__(self) -> None:
        self.status = 0
        self.broken = False
        self._said = b""
        self._parser = httptools.HttpResponseParser(self)

    @property
    def words(self) -> str:
        return cut(one_line(self._said.decode("utf-8", "replace")), WORDS_LIMIT)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserUpgrade, httptools.HttpParserError):
            self.broken = True

    # llhttp's calls

    def on_message_begin(self) -> None:
        self._said = b""

    def on_status(self, words: bytes) -> None:
        self._said += words

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        self.status = self.status or (status if status >= 200 else 0)

    def on_body(self, part: bytes) -> None:
        """Of an open tunnel's other end nothing can come before we have spoken."""
        self.broken = self.broken or 200 <= self.status < 300


def refused(proxy: Proxy, status: int, words: str, host: str) -> NoReturn:
    """Raises what the proxy's refusal means. Where its settings or ours are at fault, no row is: all wait."""
    said = f"HTTP {status} {words}".rstrip()
    if status == 407:
        raise TransientError(
            f"{proxy} wants a login: {said}", reason=Reason.AUTH, status=status, advice=LOGIN_ADVICE
        )
    text = f"{proxy} does not connect to {host}: {said}"
    if status in (401, 403, 405):
        raise TransientError(text, reason=Reason.AUTH, status=status, advice=POLICY_ADVICE)
    raise TransientError(text, reason=Reason.NETWORK, status=status, advice=PROXY_ADVICE)
