"""What can be watched, as it is written, and as a place that can be read. Pure.

example.com                     port 443
ldap.example.com:636
www.example.com@192.0.2.7:443   that address, asked for that name (SNI)
smtp://mail.example.com         STARTTLS; also imap, pop3, postgres, ldap, and by their usual ports
/etc/letsencrypt/live           a folder, a file or a pattern: what begins with /, ./, ../ or ~/
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from types import MappingProxyType

import idna

LONGEST = 500
TLS = "tls"
# With STARTTLS, and the port where no other is named.
STARTTLS = MappingProxyType({"smtp": 25, "imap": 143, "pop3": 110, "postgres": 5432, "ldap": 389})
# TLS from the first byte; what is written so is the same target as the port alone.
AT_ONCE = MappingProxyType({TLS: 443, "https": 443, "smtps": 465, "imaps": 993, "pop3s": 995, "ldaps": 636})
USUAL = {port: protocol for protocol, port in STARTTLS.items()} | {587: "smtp"}
FILES = ("/", "./", "../", "~/")
LIKE_A_FILE = re.compile(r"\.(pem|crt|cer|der|p12|pfx|jks)$", re.IGNORECASE)
LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
PATTERN = re.compile(r"[*?\[]")


class BadTarget(ValueError):
    """It cannot be watched; str() says why, in one line that repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that speaks TLS.

    host         a name in ASCII, or an address
    server_name  what it is asked for, where that is not the host
    starttls     the protocol that is spoken first, or ""
    """

    host: str
    port: int
    server_name: str = ""
    starttls: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        protocol = f"{self.starttls}://" if self.starttls else ""
        if not self.starttls and self.port in USUAL:
            protocol = f"{TLS}://"
        return f"{protocol}{self.server_name + '@' if self.server_name else ''}{host}:{self.port}"

    @property
    def name(self) -> str:
        """What its certificate has to be for: a name, or an address."""
        return self.server_name or self.host


@dataclass(frozen=True, slots=True)
class Files:
    """A file, a folder or a pattern of the machine that looks."""

    path: str

    def __str__(self) -> str:
        return self.path

    @property
    def is_pattern(self) -> bool:
        return bool(PATTERN.search(self.path))


Target = Endpoint | Files


def parse(text: str) -> Target:
    """What is written, as a target; str() of that is the one way to write it. Raises BadTarget."""
    text = text.strip()
    if not text:
        raise BadTarget("no target is named")
    if len(text) > LONGEST:
        raise BadTarget(f"a target has at most {LONGEST} characters")
    if not text.isprintable():
        raise BadTarget("a target is one line of printable characters")
    if text.startswith(FILES):
        return _files(text)
    if text.startswith("file://"):
        return _files(text.removeprefix("file://"))
    return _endpoint(text)


def _files(text: str) -> Files:
    path = os.path.abspath(os.path.expanduser(text))
    if not text.startswith(FILES):
        raise BadTarget("file:// is followed by a full path")
    return Files(path)


def _endpoint(text: str) -> Endpoint:
    protocol, separator, rest = text.partition("://")
    protocol = protocol.lower()
    if not separator:
        protocol, rest = "", text
    elif protocol not in STARTTLS and protocol not in AT_ONCE:
        known = ", ".join([*AT_ONCE, *STARTTLS])
        raise BadTarget(f"the protocol is none of {known}")
    name, at, address = rest.rpartition("@")
    host, port = _host_and_port(address.removesuffix("/"))
    if LIKE_A_FILE.search(host) and not port:
        raise BadTarget("write ./ before a file's name")
    number = port or STARTTLS.get(protocol) or AT_ONCE.get(protocol, AT_ONCE[TLS])
    if not protocol:
        protocol = USUAL.get(number, TLS)
    if at and not name:
        raise BadTarget("there is no server name before the @")
    return Endpoint(
        _host(host), number, _name(name) if name else "", protocol if protocol in STARTTLS else ""
    )


def _host_and_port(text: str) -> tuple[str, int]:
    """The port is 0 where none is written."""
    if "/" in text:
        raise BadTarget("a server has no path; a file's begins with / or ./")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadTarget("an IPv6 address is written [2001:db8::1]:443")
        return host, _port(rest[1:]) if rest else 0
    if text.count(":") > 1:
        return text, 0  # an IPv6 address, or nothing
    host, colon, port = text.partition(":")
    return host, _port(port) if colon else 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise BadTarget("a port is a number from 1 to 65535")
    return int(text)


def _host(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        return _name(text)
    if isinstance(address, IPv6Address) and address.scope_id:
        raise BadTarget("an address with a zone is none to watch")
    return str(address)


def _name(text: str) -> str:
    text = text.removesuffix(".").lower()
    if not text:
        raise BadTarget("no host is named")
    if text.startswith("*."):
        raise BadTarget("a wildcard is no host: name one that has the certificate")
    try:
        name = text if text.isascii() else idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise BadTarget("the host is no name") from None
    labels = name.split(".")
    if len(name) > 253 or not all(LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise BadTarget("the host is neither a name nor an address")
    return name
