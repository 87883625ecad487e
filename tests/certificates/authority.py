"""A certificate authority of the tests' own: certificates of any age, for any names, good and bad."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LIFETIME = 90 * DAY
MAY_ANSWER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
WHERE_ISSUER = x509.AuthorityInformationAccess(
    [
        x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier("http://ca.example.com/issuer.cer"),
        )
    ]
)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and those above it, the root left out."""

    certificate: x509.Certificate
    key: Any
    above: tuple[x509.Certificate, ...] = ()

    @cached_property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @cached_property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def chain(self) -> bytes:
        return self.pem + b"".join(one.public_bytes(Encoding.PEM) for one in self.above)

    @cached_property
    def key_pem(self) -> bytes:
        pem: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem

    def pkcs12(self, password: bytes | None) -> bytes:
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return pkcs12.serialize_key_and_certificates(
            b"web", self.key, self.certificate, list(self.above), encryption
        )

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def context(self, folder: Path, *, chain: bool = True) -> ssl.SSLContext:
        """A server's."""
        file = folder / f"{self.fingerprint[:16]}-{chain}.pem"
        file.write_bytes(self.key_pem + (self.chain if chain else self.pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.load_cert_chain(file)
        return context


class Authority:
    """A root, or one below another."""

    def __init__(
        self,
        name: str = "Tests' Root",
        above: Authority | None = None,
        *,
        since: datetime = NOW - 3650 * DAY,
        until: datetime = NOW + 3650 * DAY,
        key: Any = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.parents: tuple[x509.Certificate, ...] = ()
        self.is_root: bool = above is None
        if above and not above.is_root:
            self.parents = (above.certificate, *above.parents)
        signer = above or self
        self.certificate: x509.Certificate = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(above.certificate.subject if above else named(name))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        *names: str,
        since: datetime = NOW - 30 * DAY,
        until: datetime | None = None,
        key: Any = None,
        hashed: Any = None,
        extensions: Sequence[x509.ExtensionType] = (),
        common_name: str | None = None,
    ) -> Issued:
        """For these names; the first is its common name."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(common_name or (names[0] if names else "nobody")[:64]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until or since + LIFETIME)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([alternative(name) for name in names]), critical=False
            )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        signed = builder.sign(self.key, hashed or hashes.SHA256())
        above = () if self.is_root else (self.certificate, *self.parents)
        return Issued(signed, key, above)

    def revoking(self, *issued: Issued | Authority, until: datetime = NOW + 7 * DAY) -> bytes:
        """A revocation list with these, in PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(until - 14 * DAY)
            .next_update(until)
        )
        for one in issued:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(one.certificate.serial_number)
                .revocation_date(until - 14 * DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def answering(
        self, issued: Issued, *, revoked: bool = True, by: Issued | None = None, since: datetime = NOW
    ) -> bytes:
        """An OCSP response about that certificate. by: who answers in its name"""
        builder = ocsp.OCSPResponseBuilder().add_response(
            issued.certificate,
            self.certificate,
            hashes.SHA256(),
            ocsp.OCSPCertStatus.REVOKED if revoked else ocsp.OCSPCertStatus.GOOD,
            since,
            since + DAY,
            since - DAY if revoked else None,
            None,
        )
        signer = by or self
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        if by:
            builder = builder.certificates([by.certificate])
        hashed = None if isinstance(signer.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(signer.key, hashed).public_bytes(Encoding.DER)


def signed_with(hashed: hashes.HashAlgorithm, key: Any, made: x509.Certificate) -> x509.Certificate:
    """The same, signed by the RSA key with a hash that the library signs no certificate with any more."""
    good = bytes.fromhex("2a864886f70d01010b")  # sha256WithRSAEncryption
    other = good[:-1] + bytes([{"md5": 4, "sha1": 5}[hashed.name]])
    to_sign = made.tbs_certificate_bytes.replace(good, other, 1)
    signature = key.sign(to_sign, padding.PKCS1v15(), hashed)
    whole = made.public_bytes(Encoding.DER).replace(made.tbs_certificate_bytes, to_sign).replace(good, other)
    return x509.load_der_x509_certificate(whole[: -len(signature)] + signature)


def short_key() -> Any:
    return rsa.generate_private_key(65537, 1024)
