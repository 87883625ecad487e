"""The addresses that a recipient names: what any mail program takes, read by the standard library's parser.

Several stand with commas or semicolons between them, each with or without a name and brackets, or `mailto:`.
From RFC 5321, 4.5.3.1: a local part has at most 64 octets, a domain 255; RFC 6531: a local part that is not
ASCII needs a server with SMTPUTF8, while a domain that is not has a form in ASCII (RFC 5891).
"""

from __future__ import annotations

import ipaddress
import re
from email.errors import InvalidHeaderDefect
from email.headerregistry import Address
from email.policy import SMTPUTF8
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import idna

LONGEST = 2_000  # characters of one recipient; the table's column has 255
LOCAL_LIMIT, DOMAIN_LIMIT = 64, 255
MAILTO = re.compile(r"\s*mailto:", re.IGNORECASE)
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
DOMAIN = re.compile(rf"{LABEL}(?:\.{LABEL})*")
PLAIN = re.compile(
    rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@{DOMAIN.pattern}"
)
NAMED = re.compile(r'([^"<>]*)<([^<>]*)>')
# A quoted part or one in angle brackets is passed over, so that only separators between addresses are found.
BETWEEN = re.compile(r'"(?:[^"\\]|\\.)*"|<[^<>]*>|([;,])', re.DOTALL)


@lru_cache(maxsize=4096)
def addresses(recipient: str) -> tuple[Address, ...]:
    """Each address once, in their order, the domains in ASCII.

    Raises ValueError, which says in words what is wrong, where not every part is an address.
    """
    text = recipient.strip()
    if len(text) > LONGEST or not text.isprintable():
        raise ValueError(f"{text[:80]!r} is not an e-mail address")
    parts = [_without_mailto(part) for part in _split(text) if part.strip()]
    found = {address.addr_spec.casefold(): address for address in map(_read, parts)}
    if not found:
        raise ValueError(f"{text[:80]!r} is not an e-mail address" if text else "there is no e-mail address")
    return tuple(found.values())


def is_address(text: str) -> bool:
    """Whether it is exactly one address, with or without a name."""
    try:
        return len(addresses(text)) == 1
    except ValueError:
        return False


def needs_utf8(address: Address) -> bool:
    return not address.addr_spec.isascii()


def _split(text: str) -> list[str]:
    ends = [match for match in BETWEEN.finditer(text) if match[1]]
    starts = [0, *(match.end() for match in ends)]
    return [text[a:b] for a, b in zip(starts, [*(match.start() for match in ends), len(text)], strict=True)]


def _without_mailto(part: str) -> str:
    if scheme := MAILTO.match(part):
        return unquote(part[scheme.end() :].partition("?")[0])
    return part.strip()


def _read(part: str) -> Address:
    """The address in it, with its name. Of some faults the parser itself fails."""
    if PLAIN.fullmatch(part) and len(part.partition("@")[0]) <= LOCAL_LIMIT:
        return Address(addr_spec=part)
    if named := NAMED.fullmatch(part):  # a name that is not quoted may hold what it may not by the RFC
        address = _read(_without_mailto(named[2]))
        return Address(named[1].strip(), address.username, address.domain)
    try:
        header: Any = SMTPUTF8.header_factory("to", part if part.isprintable() else "")
        [read] = header.addresses
    except Exception:
        read = None
    if read is None or any(isinstance(defect, InvalidHeaderDefect) for defect in header.defects):
        raise ValueError(f"{part[:80]!r} is not an e-mail address")
    local, domain = read.username, _ascii_domain(read.domain)
    if not local or not domain or len(local.encode()) > LOCAL_LIMIT or len(domain) > DOMAIN_LIMIT:
        raise ValueError(f"{part[:80]!r} is not an e-mail address")
    return Address(read.display_name, local, domain)


def _ascii_domain(domain: str) -> str:
    """The domain as a server takes it, "" for what is none."""
    if domain.startswith("["):
        return domain if _is_literal(domain) else ""
    try:
        encoded = domain if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return ""
    return encoded if DOMAIN.fullmatch(encoded) else ""


def _is_literal(domain: str) -> bool:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]`."""
    inside = domain[1:-1]
    try:
        ipaddress.ip_address(inside[5:] if inside.lower().startswith("ipv6:") else inside)
    except ValueError:
        return False
    return domain.endswith("]")
