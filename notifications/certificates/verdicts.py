"""What a client that verifies would say of a certificate, although ours accepts whatever it is shown.

Revoked is what a revocation list beside the trusted roots names. Nobody else is asked: Python's ssl hands out
no staple, and a list's or a responder's address in a certificate is an outsider's.
"""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from .facts import (
    WEAK_HASHES,
    Facts,
    Unreadable,
    facts_of,
    is_ca,
    is_self_issued,
    load,
    names_its_issuers_place,
    names_of,
)

MOST_SENT = 10  # certificates of a chain that are looked at
CACHED, MOST_CACHED = 4096, 16 * 1024  # chains, bytes of each
MOST_STORE = 8 * 1024 * 1024  # bytes of a trust store
MOST_LISTS = 100  # of revocations, in a trust store
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----\n"
BEGIN_LIST, END_LIST = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----\n"


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
    Verdict.REVOKED: "is revoked: it is on its issuer's revocation list",
    Verdict.CHAIN_REVOKED: "is sent with an intermediate certificate that is revoked",
    Verdict.WEAK_KEY: "has a key that is too short",
    Verdict.WEAK_SIGNATURE: "is signed with a broken hash (MD5, SHA-1)",
    Verdict.MALFORMED: "has names that cannot be read",
}
VERDICTS = {str(one): said for one, said in WORDS.items()}
TOLD_BY_THRESHOLDS = frozenset({Verdict.EXPIRED})
REVOCATIONS = frozenset({Verdict.REVOKED, Verdict.CHAIN_REVOKED})


@dataclass(frozen=True, slots=True, eq=False)
class TrustStore:
    """Root certificates, by their subjects, and revocation lists, by their issuers. Without any root it knows
    nobody, so it judges no issuer."""

    roots: dict[bytes, list[x509.Certificate]] = field(default_factory=dict)
    lists: dict[bytes, list[x509.CertificateRevocationList]] = field(default_factory=dict)

    @classmethod
    def of(cls, ders: Iterable[bytes], lists: Iterable[x509.CertificateRevocationList] = ()) -> TrustStore:
        found: dict[bytes, list[x509.Certificate]] = defaultdict(list)
        for der in dict.fromkeys(ders):
            try:
                root = load(der)
                found[root.subject.public_bytes()].append(root)
            except Exception:  # noqa: S112  (a root that cannot be read signs nothing)
                continue
        by_issuer: dict[bytes, list[x509.CertificateRevocationList]] = defaultdict(list)
        for one in lists:
            by_issuer[one.issuer.public_bytes()].append(one)
        return cls(dict(found), dict(by_issuer))


@lru_cache(maxsize=32)
def trust_store(ca_file: str = "", period: int = 0) -> TrustStore:
    """This machine's, as OpenSSL finds it (SSL_CERT_FILE, SSL_CERT_DIR), and what the file adds to it.

    period  what was read in another one is read anew

    Raises Unreadable for a file that has neither a certificate nor a revocation list, or a broken one.
    """
    paths, found, lists = (
        ssl.get_default_verify_paths(),
        list[bytes](),
        list[x509.CertificateRevocationList](),
    )
    if paths.cafile:
        found += _in(Path(paths.cafile))
    elif paths.capath:
        for path in sorted(Path(paths.capath).iterdir()):
            found += _in(path)
    if ca_file:
        own, lists = _in(Path(ca_file)), _lists_in(Path(ca_file))
        if not own and not lists:
            raise Unreadable("the CA file has no certificate, or cannot be read")
        found += own
    return TrustStore.of(found, lists)


def _in(path: Path) -> list[bytes]:
    try:
        return [ssl.PEM_cert_to_DER_cert(_whole(block)) for block in _blocks(path, BEGIN)]
    except (OSError, ValueError):
        return []


def _lists_in(path: Path) -> list[x509.CertificateRevocationList]:
    """Raises Unreadable for one that is broken: nobody would notice that it says nothing."""
    try:
        blocks = _blocks(path, BEGIN_LIST)[:MOST_LISTS]
        return [
            x509.load_pem_x509_crl(BEGIN_LIST + block.partition(b"-----END")[0] + END_LIST)
            for block in blocks
        ]
    except OSError:
        return []
    except ValueError as error:
        raise Unreadable("the CA file has a revocation list that cannot be read") from error


def _blocks(path: Path, begin: bytes) -> list[bytes]:
    """What follows each such line. Raises OSError."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return file.read(MOST_STORE).split(begin)[1:]


def _whole(block: bytes) -> str:
    return (BEGIN + block.partition(b"-----END")[0] + END).decode("ascii")


def of_chain(chain: Sequence[bytes], name: str, store: TrustStore, now: datetime) -> list[Verdict]:
    """What is wrong with what a server sent, its own certificate first. Raises Unreadable for that one.

    name  that it was asked for
    """
    sent = tuple(chain[: MOST_SENT + 1])
    lasting, used = (_cached if sum(map(len, sent)) <= MOST_CACHED else _judged)(sent, name, store)
    found = [*of_time(facts_of(chain[0]), now), *lasting]
    if any(not _is_valid(der, now) for der in used):
        found.append(Verdict.CHAIN_EXPIRED)
    return found


def of_time(facts: Facts, now: datetime) -> Iterator[Verdict]:
    if now >= facts.not_after:
        yield Verdict.EXPIRED
    if now < facts.not_before:
        yield Verdict.NOT_YET_VALID


def _is_valid(der: bytes, now: datetime) -> bool:
    facts = facts_of(der)
    return facts.not_before <= now < facts.not_after


def _judged(
    chain: tuple[bytes, ...], name: str, store: TrustStore
) -> tuple[tuple[Verdict, ...], tuple[bytes, ...]]:
    """What does not depend on the time, and the certificates on whose dates the rest depends."""
    found = [Verdict(fault) for fault in facts_of(chain[0]).faults]
    if not matches(names_of(load(chain[0])), name):
        found.append(Verdict.WRONG_NAME)
    used, fault = _used(chain, store)
    found += _revoked((chain[0], *used), store)
    for der in used:
        found += [Verdict(weak) for weak in facts_of(der).faults if weak not in found and weak != "malformed"]
    return ((*found, fault) if fault else tuple(found)), used


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


def _revoked(path: Sequence[bytes], store: TrustStore) -> Iterator[Verdict]:
    """What their issuers' lists say of those on the way to a root. What a list names stays revoked, however
    old the list is."""
    if not store.lists:
        return
    certificates = [load(der) for der in path]
    for place, certificate in enumerate(certificates):
        above = [*certificates[place + 1 :], *store.roots.get(certificate.issuer.public_bytes(), ())]
        if any(
            _is_on(one, certificate, above) for one in store.lists.get(certificate.issuer.public_bytes(), ())
        ):
            yield Verdict.CHAIN_REVOKED if place else Verdict.REVOKED


def _is_on(
    listed: x509.CertificateRevocationList, certificate: x509.Certificate, above: Iterable[x509.Certificate]
) -> bool:
    entry = listed.get_revoked_certificate_by_serial_number(certificate.serial_number)
    return entry is not None and any(
        _signed(certificate, issuer) and _has_made(issuer, listed) for issuer in above
    )


def _has_made(issuer: x509.Certificate, listed: x509.CertificateRevocationList) -> bool:
    try:
        return listed.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except Exception:  # a kind of key that signs no lists
        return False


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
        if is_ca(other) and _signed(certificate, other):
            yield der


def _is_trusted(certificate: x509.Certificate, store: TrustStore) -> bool:
    try:
        same = store.roots.get(certificate.subject.public_bytes(), ())
        if certificate in same:
            return True
        above = store.roots.get(certificate.issuer.public_bytes(), ())
    except Exception:
        return False
    return any(_signed(certificate, root) for root in above)


def _signed(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except Exception:  # names, signature, or what the library does not know or verifies no more
        return _signed_with_a_broken_hash(certificate, by)
    return True


def _signed_with_a_broken_hash(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    """What is wrong with it is said as that, and not as an issuer that nobody knows."""
    try:
        hashed, key = certificate.signature_hash_algorithm, by.public_key()
        if hashed is None or hashed.name not in WEAK_HASHES or certificate.issuer != by.subject:
            return False
        signed = certificate.signature, certificate.tbs_certificate_bytes
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(*signed, padding.PKCS1v15(), hashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(*signed, ec.ECDSA(hashed))
        else:
            return False
    except Exception:
        return False
    return True


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
