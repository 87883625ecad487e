"""What is revoked: by the lists beside the trusted roots, or by what a server staples to its own certificate.

Nobody else is asked: a list's or a responder's address in a certificate is an outsider's. What says that a
certificate is revoked counts however old it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from .signatures import is_signed, verifies
from .trust import TrustStore

LONGEST_STAPLE = 64 * 1024


def listed(path: Sequence[x509.Certificate], store: TrustStore) -> Iterator[int]:
    """The places of those on the way to a root that a list of their issuer names."""
    if not store.lists:
        return
    for place, certificate in enumerate(path):
        if _is_listed(certificate, path[place + 1 :], store):
            yield place


def _is_listed(certificate: x509.Certificate, above: Sequence[x509.Certificate], store: TrustStore) -> bool:
    try:
        lists = store.lists.get(certificate.issuer.public_bytes(), ())
        issuers = _issuers(certificate, above, store) if lists else []
        return any(_is_on(one, certificate, issuers) for one in lists)
    except Exception:  # an issuer or a serial number that cannot be written is on no list
        return False


def is_stapled(staple: bytes, sent: Sequence[x509.Certificate], store: TrustStore) -> bool:
    """Whether an OCSP response says that the first certificate is revoked (RFC 6960), in the name of its
    issuer: what is broken, or another's, says nothing."""
    certificate = sent[0]
    try:
        if len(staple) > LONGEST_STAPLE:
            return False
        response = ocsp.load_der_ocsp_response(staple)
        revoked = any(
            one.certificate_status == ocsp.OCSPCertStatus.REVOKED
            and one.serial_number == certificate.serial_number
            for one in response.responses
        )
        return revoked and any(_answers(response, by) for by in _issuers(certificate, sent[1:], store))
    except Exception:  # not a response, or one without an answer
        return False


def _issuers(
    certificate: x509.Certificate, above: Iterable[x509.Certificate], store: TrustStore
) -> list[x509.Certificate]:
    """Those that have signed it, among these and the roots."""
    roots = store.roots.get(certificate.issuer.public_bytes(), ())
    return [issuer for issuer in (*above, *roots) if is_signed(certificate, issuer)]


def _is_on(
    listing: x509.CertificateRevocationList,
    certificate: x509.Certificate,
    issuers: Iterable[x509.Certificate],
) -> bool:
    entry = listing.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is None or _is_taken_off(entry):
        return False
    return any(_has_made(issuer, listing) for issuer in issuers)


def _is_taken_off(entry: x509.RevokedCertificate) -> bool:
    """What a list of changes says of one that is revoked no more (RFC 5280, 5.3.1)."""
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except Exception:
        return False
    return reason is x509.ReasonFlags.remove_from_crl


def _has_made(issuer: x509.Certificate, listing: x509.CertificateRevocationList) -> bool:
    try:
        return listing.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except Exception:  # a kind of key that signs no lists
        return False


def _answers(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """The issuer itself, or one whom it lets answer in its name."""
    delegates = (one for one in response.certificates if _may_answer(one) and is_signed(one, issuer))
    return any(
        verifies(
            signer.public_key(),
            response.signature,
            response.tbs_response_bytes,
            response.signature_hash_algorithm,
        )
        for signer in (issuer, *delegates)
    )


def _may_answer(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except Exception:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage
