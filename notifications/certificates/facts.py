"""One certificate as plain values. Whatever an outsider wrote into it: it is read, or refused in one line."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID

from ..text import cut

MOST_NAMES = 100  # that are kept; all are compared with the name that was asked for
LONGEST_NAME = 255
CACHED, MOST_CACHED = 4096, 8 * 1024  # certificates, bytes of each
LEAST_RSA, LEAST_EC = 2048, 224
WEAK_HASHES = ("md5", "sha1")


class Unreadable(Exception):
    """Nothing could be read there; str() says why in one line, without secrets."""


@dataclass(frozen=True, slots=True)
class Facts:
    """names: what it is for, the first of them; all_names: the fingerprint of all; key: that of its public
    key."""

    fingerprint: str
    names: tuple[str, ...]
    subject: str
    issuer: str
    serial: str
    key: str
    algorithm: str
    not_before: datetime
    not_after: datetime
    all_names: str
    is_ca: bool
    faults: tuple[str, ...]  # of verdicts.Verdict: those that it has by itself

    @property
    def title(self) -> str:
        return self.names[0] if self.names else self.subject or f"serial {self.serial}"


def load(der: bytes) -> x509.Certificate:
    """Raises Unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(der)
    except Exception as error:  # also what a certificate's odd parts raise in the parser
        raise Unreadable("is no certificate") from error


def facts_of(der: bytes) -> Facts:
    """Raises Unreadable for what is no certificate, or has no dates."""
    return _cached(der) if len(der) <= MOST_CACHED else _facts_of(der)


def _facts_of(der: bytes) -> Facts:
    certificate = load(der)
    try:
        not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except Exception as error:
        raise Unreadable("is a certificate without dates") from error
    algorithm, faults = _strength(certificate)
    names, malformed = _names(certificate)
    return Facts(
        fingerprint=hashlib.sha256(der).hexdigest(),
        names=tuple(cut(name, LONGEST_NAME) for name in names[:MOST_NAMES]),
        subject=_text(certificate, "subject"),
        issuer=_text(certificate, "issuer"),
        serial=_serial(certificate),
        key=_key(certificate),
        algorithm=algorithm,
        not_before=not_before,
        not_after=not_after,
        all_names=hashlib.sha256("\n".join(sorted(map(str.lower, names))).encode()).hexdigest(),
        is_ca=is_ca(certificate),
        faults=(*faults, *(["malformed"] if malformed else [])),
    )


_cached = lru_cache(maxsize=CACHED)(_facts_of)


def names_of(certificate: x509.Certificate) -> list[str]:
    """What it is for, whole: DNS names and addresses as clients compare them, else its common name."""
    return _names(certificate)[0]


def _names(certificate: x509.Certificate) -> tuple[list[str], bool]:
    malformed = False
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = list(dict.fromkeys(_written(alternatives)))
    except x509.ExtensionNotFound:
        found = []
    except Exception:
        found, malformed = [], True
    return (found or _common_names(certificate)), malformed


def _written(alternatives: x509.SubjectAlternativeName) -> Iterator[str]:
    for name in alternatives:
        if isinstance(name, x509.DNSName):
            yield name.value.lower()
        elif isinstance(name, x509.RFC822Name | x509.UniformResourceIdentifier):
            yield name.value
        elif isinstance(name, x509.IPAddress):
            yield str(name.value)


def _common_names(certificate: x509.Certificate) -> list[str]:
    try:
        return [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except Exception:
        return []


def _text(certificate: x509.Certificate, which: str) -> str:
    try:
        return cut(getattr(certificate, which).rfc4514_string(), LONGEST_NAME)
    except Exception:
        return ""


def _serial(certificate: x509.Certificate) -> str:
    try:
        return cut(f"{certificate.serial_number:x}", 64)
    except Exception:
        return ""


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # of a kind that the library does not know
        return ""
    return hashlib.sha256(key).hexdigest()


def _strength(certificate: x509.Certificate) -> tuple[str, list[str]]:
    """What its key and signature are, and which of the two is weak."""
    kind, weak = _key_kind(certificate)
    try:
        signed_with = certificate.signature_hash_algorithm
        hashed = signed_with.name if signed_with else ""
    except Exception:
        hashed = ""
    faults = ["weak_key"] if weak else []
    # A root's own signature is nobody's evidence.
    if hashed in WEAK_HASHES and not is_self_issued(certificate):
        faults.append("weak_signature")
    return ", ".join(filter(None, (kind, hashed))), faults


def _key_kind(certificate: x509.Certificate) -> tuple[str, bool]:
    try:
        key = certificate.public_key()
    except Exception:
        return "", False
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}", key.key_size < LEAST_RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}", key.key_size < LEAST_EC
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA {key.key_size}", True
    return type(key).__name__.strip("_").removesuffix("PublicKey"), False


def is_self_issued(certificate: x509.Certificate) -> bool:
    try:
        return certificate.issuer == certificate.subject
    except Exception:
        return False


def is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except Exception:
        return False


def names_its_issuers_place(certificate: x509.Certificate) -> bool:
    """It says where its issuer's certificate can be had: so the server is to send that."""
    try:
        access = certificate.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_INFORMATION_ACCESS).value
        return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in access)  # type: ignore[attr-defined]
    except Exception:
        return False
