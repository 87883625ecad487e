"""Who is trusted: root certificates, and the revocation lists beside them."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography import x509

from .facts import Unreadable, load

MOST_STORE = 8 * 1024 * 1024  # bytes of a trust store
MOST_LISTS = 100  # of revocations, in a trust store
BEGIN, END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----\n"
BROKEN_LIST = "the CA file has a revocation list that cannot be read"
BEGIN_LIST, END_LIST = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----\n"


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
            try:
                by_issuer[one.issuer.public_bytes()].append(one)
            except Exception as error:
                raise Unreadable(BROKEN_LIST) from error
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
    except Exception as error:  # also what an odd one raises in the parser
        raise Unreadable(BROKEN_LIST) from error


def _blocks(path: Path, begin: bytes) -> list[bytes]:
    """What follows each such line. Raises OSError."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return file.read(MOST_STORE).split(begin)[1:]


def _whole(block: bytes) -> str:
    return (BEGIN + block.partition(b"-----END")[0] + END).decode("ascii")
