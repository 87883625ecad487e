"""What a client that verifies would say of a certificate, although ours accepts whatever it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509

from . import revocations
from .facts import (
    Facts,
    Unreadable,
    facts_of,
    is_ca,
    is_self_issued,
    load,
    names_its_issuers_place,
    names_of,
)
from .signatures import is_signed
from .trust import TrustStore

MOST_SENT = 10  # certificates of a chain that are looked at
CACHED, MOST_CACHED = 4096, 16 * 1024  # chains, bytes of each


class Verdict(StrEnum):
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_NAME = "wrong_name"
    UNKNOWN_ISSUER = "unknown_issuer"
    INCOMPLETE_CHAIN = "incomplete_chain"
    CHAIN_EXPIRED = "chain_expired"
    REVOKED = "revoked"
    CHAIN_REVOKED = "chain_revoked"
    WEAK_KEY = "weak_key"
    WEAK_SIGNATURE = "weak_signature"
    MALFORMED = "malformed"


WORDS = {
    Verdict.EXPIRED: "has expired",
    Verdict.NOT_YET_VALID: "is not valid yet",
    Verdict.WRONG_NAME: "is for other names than the one it was asked for",
    Verdict.UNKNOWN_ISSUER: "is signed by nobody that this machine trusts",
    Verdict.INCOMPLETE_CHAIN: "is sent without the intermediate certificate that signed it",
    Verdict.CHAIN_EXPIRED: "is sent with an intermediate certificate that has expired",
    Verdict.REVOKED: "is revoked by its issuer",
    Verdict.CHAIN_REVOKED: "is sent with an intermediate certificate that is revoked",
    Verdict.WEAK_KEY: "has a key that is too short",
    Verdict.WEAK_SIGNATURE: "is signed with a broken hash (MD5, SHA-1)",
    Verdict.MALFORMED: "has names that cannot be read",
}
VERDICTS = {str(one): said for one, said in WORDS.items()}
TOLD_BY_THRESHOLDS = frozenset({Verdict.EXPIRED})
REVOCATIONS = frozenset({Verdict.REVOKED, Verdict.CHAIN_REVOKED})


def of_chain(
    chain: Sequence[bytes], name: str, store: TrustStore, now: datetime, staple: bytes = b""
) -> list[Verdict]:
    """What is wrong with what a server sent, its own certificate first. Raises Unreadable for that one.

    name    that it was asked for
    staple  the OCSP response that came with it
    """
    sent = tuple(chain[: MOST_SENT + 1])
    lasting = (_cached if sum(map(len, sent)) <= MOST_CACHED else _judged)(sent, store)
    found = [*of_time(facts_of(chain[0]), now), *lasting.verdicts]
    if not matches(lasting.names, name):
        found.append(Verdict.WRONG_NAME)
    if staple and Verdict.REVOKED not in found and revocations.is_stapled(staple, _path(sent), store):
        found.append(Verdict.REVOKED)
    if any(not _is_valid(der, now) for der in lasting.used):
        found.append(Verdict.CHAIN_EXPIRED)
    return found


def _path(sent: Sequence[bytes]) -> list[x509.Certificate]:
    return [load(sent[0]), *_loaded(sent[1:]).values()]


def of_time(facts: Facts, now: datetime) -> Iterator[Verdict]:
    if now >= facts.not_after:
        yield Verdict.EXPIRED
    if now < facts.not_before:
        yield Verdict.NOT_YET_VALID


def _is_valid(der: bytes, now: datetime) -> bool:
    facts = facts_of(der)
    return facts.not_before <= now < facts.not_after


class Lasting(NamedTuple):
    """What depends neither on the time nor on the name that was asked for.

    names  that the certificate is for
    used   the certificates on whose dates the rest depends
    """

    verdicts: tuple[Verdict, ...]
    names: tuple[str, ...]
    used: tuple[bytes, ...]


def _judged(chain: tuple[bytes, ...], store: TrustStore) -> Lasting:
    found = [Verdict(fault) for fault in facts_of(chain[0]).faults]
    used, fault = _used(chain, store)
    places = revocations.listed([load(der) for der in (chain[0], *used)], store)
    found += [Verdict.CHAIN_REVOKED if place else Verdict.REVOKED for place in places]
    for der in used:
        found += [Verdict(weak) for weak in facts_of(der).faults if weak not in found and weak != "malformed"]
    found += [fault] if fault else []
    return Lasting(tuple(found), tuple(names_of(load(chain[0]))), used)


_cached = lru_cache(maxsize=CACHED)(_judged)


def _used(chain: tuple[bytes, ...], store: TrustStore) -> tuple[tuple[bytes, ...], Verdict | None]:
    """The way from the first certificate up to one that is trusted: the others on it, and where it ends
    otherwise, why."""
    current, others, used = load(chain[0]), _loaded(chain[1:]), list[bytes]()
    if not store.roots:
        return (), None
    while not _is_trusted(current, store):
        signer = None if is_self_issued(current) else next(_signers(current, others), None)
        if signer is None:
            missing = not is_self_issued(current) and names_its_issuers_place(current)
            return tuple(used), Verdict.INCOMPLETE_CHAIN if missing else Verdict.UNKNOWN_ISSUER
        del others[signer]
        used.append(signer)
        current = load(signer)
    return tuple(used), None


def _loaded(ders: Iterable[bytes]) -> dict[bytes, x509.Certificate]:
    found = {}
    for der in ders:
        try:
            facts_of(der)
            found[der] = load(der)
        except Unreadable:
            continue
    return found


def _signers(certificate: x509.Certificate, others: dict[bytes, x509.Certificate]) -> Iterator[bytes]:
    for der, other in others.items():
        if is_ca(other) and is_signed(certificate, other):
            yield der


def _is_trusted(certificate: x509.Certificate, store: TrustStore) -> bool:
    try:
        same = store.roots.get(certificate.subject.public_bytes(), ())
        if certificate in same:
            return True
        above = store.roots.get(certificate.issuer.public_bytes(), ())
    except Exception:
        return False
    return any(is_signed(certificate, root) for root in above)


def matches(names: Iterable[str], wanted: str) -> bool:
    """Whether a certificate for these names is one for the wanted, as clients compare (RFC 6125): a star
    stands for one whole first label."""
    try:
        address = str(ip_address(wanted))
    except ValueError:
        wanted = wanted.lower().removesuffix(".")
        parent = wanted.partition(".")[2]
        accepted = {wanted, f"*.{parent}"} if "." in parent else {wanted}
        return any(name.lower().removesuffix(".") in accepted for name in names)
    return address in names
